"""What is timed: each model in three sizes, on synthetic images that need no download."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import torch

from benchmarks.matrix import read_matrix
from gans.compute import precision as precisions
from gans.config import MDGANConfig, Resolved, experiment
from gans.data.images import ImageData
from gans.models.layers import Shape
from gans.recipes import recipe
from gans.registry import MODELS
from gans.schema import Settled

IMAGES = {32: 20_000, 16: 1438}  # no pass over the data ends while it is timed; as many as digits has
# the recipes at the width of the PyTorch tutorial and batches of 128; MD-GAN with four workers that share one
SIZES: dict[str, dict[str, Any]] = {
    "gan": {"batch": 128},
    "dcgan": {"networks": {"width": 64}},
    "dcgan-nobn": {"networks": {"width": 64}},
    "sagan": {},
    "mdgan": {"networks": {"width": 64}, "batch": 32, "update": {"workers": 4}},
}


@dataclass(frozen=True)
class Workload:
    """A model at a size; a log is due every 1000 images, as in a run of 100 kimg."""

    name: str
    experiment: Resolved
    shape: Shape

    @property
    def data(self) -> ImageData:
        return images(self.shape)

    @property
    def note(self) -> str:
        e, shape = self.experiment, self.shape
        workers = f", {e.update.workers} workers" if isinstance(e.update, MDGANConfig) else ""
        size = f"{shape.channels}x{shape.side}x{shape.side}, width {e.flat()['networks.width']}"
        return f"{size}, batch {e.batch}{workers}, {e.loss.name}"

    def default(self, device: torch.device) -> Settled:
        """The precision that it is trained in on a device by default."""
        return precisions.resolve("auto", device, MODELS[self.experiment.networks.name])

    def trained_in(self, precision: Settled) -> Self:
        return replace(self, experiment=self.experiment.model_copy(update={"precision": precision}))


def colour(model: str) -> Workload:
    """32x32 colour images, as CIFAR-10's."""
    return _workload(model, "32x32", Shape(3, 32), SIZES[model])


def small(model: str) -> Workload:
    """A cell of the default matrix, `digits`."""
    file = read_matrix("digits").file
    return _workload(model, "digits", Shape(1, 16), file.defaults, file.models[model])


def papers(name: str, *tables: Mapping[str, Any]) -> Workload:
    """The recipe at the paper's width, on 32x32 colour images; of ten classes if conditional."""
    classes = 10 if recipe(name).settings["networks"].get("conditional") else 0
    return _workload(name, "recipe", Shape(3, 32, classes), *tables)


def _workload(model: str, size: str, shape: Shape, *tables: Mapping[str, Any]) -> Workload:
    forever = {"kimg": 1e5, "schedule": {"logs": 100_000}, "precision": "float32", "dataset": "synthetic"}
    made = experiment(recipe(model).settings, *tables, forever, where="benchmarks.speed")
    return Workload(f"{model} {size}", Resolved.of(made, shape.side, "float32", ["none"]), shape)


# Huang et al. 2024, for CIFAR-10; their machines did 90 images a second on each L40
R3GAN = replace(papers("cr3gan", {"networks": {"width": 768, "latent": 64}, "batch": 512}), name="r3gan cifar10")


@cache
def images(shape: Shape) -> ImageData:
    """Noise of the right type and size: pixels do not change how long arithmetic takes."""
    rng = torch.Generator().manual_seed(0)
    size = (IMAGES[shape.side], shape.channels, shape.side, shape.side)
    train = torch.randint(0, 256, size, generator=rng, dtype=torch.uint8)
    labels = torch.arange(len(train)) % shape.classes if shape.classes else None
    of_test = None if labels is None else labels[:100]
    names = tuple(map(str, range(shape.classes)))
    return ImageData("synthetic", "Synthetic", train, train[:100], labels, of_test, names, f"noise {size}")
