"""A cell: a model on a data set with one seed; its identity, and checks that its parts fit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import psutil
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gans import fidelity, schema
from gans.compute import precision
from gans.config import Experiment, NetworkConfig, Resolved
from gans.data import datasets
from gans.data.images import ImageData
from gans.errors import InputError
from gans.models import build_discriminator, build_generator, shape_of
from gans.models.layers import Shape, has_batch_norm
from gans.registry import LOSSES, MODELS, RULES
from gans.training.plugins import check_loss, check_networks
from gans.training.two_player import penalties_of

Find = Callable[[str], fidelity.Extractor]
VALUES = ("normal_", "uniform_", "normalize")  # what gives values and changes no shape
COPIES = 5  # of a parameter: weights, gradient, two moments of Adam, average


@dataclass(frozen=True)
class Cell:
    """A model on a data set with one seed."""

    model: str  # its name in tables: a recipe, or what the matrix calls it
    experiment: Resolved  # resolution, extractors and precision are named
    identity: str  # hash of what decides its weights and which checkpoint is kept
    metric: str  # the score that chooses the checkpoint and ranks models, `fd_digits` say

    @property
    def name(self) -> str:
        return f"{self.model}/{self.experiment.dataset}/{self.experiment.seed}"

    @property
    def slug(self) -> str:
        """A folder's name: readable, and different for different identities."""
        return f"{schema.slug(self.name)[-80:]}-{self.identity[:8]}"

    @property
    def images(self) -> ImageData:
        return datasets.load(self.experiment.dataset, resolution=self.experiment.resolution)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of its generator; none: it is not conditional."""
        return self.images.classes if self.experiment.networks.conditional else ()


@cache
def extractor(name: str) -> fidelity.Extractor:
    """The extractor, its weights checked once per process."""
    return fidelity.require(name)


def described(name: str) -> fidelity.Extractor:
    """The extractor; one whose weights cannot be had as it was published, so that its cells can be planned."""
    try:
        return extractor(name)
    except InputError:
        return fidelity.published(name)


def resolve(model: str, experiment: Experiment, device: torch.device) -> Cell:
    """The cell of an experiment on a device, with everything checked that can be before training starts."""
    cell = identify(model, experiment, device)
    check_cell(cell, device)
    return cell


def identify(model: str, experiment: Experiment, device: torch.device) -> Cell:
    """As `identify_seeds`, from the experiment's seed."""
    return identify_seeds(model, experiment, [experiment.seed], device)[0]


def identify_seeds(
    model: str, experiment: Experiment, seeds: Sequence[int], device: torch.device, find: Find = extractor
) -> list[Cell]:
    """The cells of an experiment from some seeds, in their order, whether or not they can be trained.

    The device decides on their precision. `find` is `described` for a plan that nothing is run of. An InputError
    if the data set or an extractor's weights cannot be had.
    """
    images = datasets.load(experiment.dataset, resolution=experiment.resolution)
    names = [fidelity.default_extractor(images) if e == "auto" else e for e in experiment.score.extractors]
    extractors = [find(name) for name in dict.fromkeys(names)]
    settled = precision.resolve(experiment.precision, device, MODELS[experiment.networks.name])
    resolved = Resolved.of(experiment, images.resolution, settled, [e.name for e in extractors])
    own, code = extractors[0], resolved.code()
    some = [resolved.model_copy(update={"seed": seed}) for seed in seeds]
    return [Cell(model, one, one.identity(images.hash, own.hash, code), own.prefix) for one in some]


def check_cell(cell: Cell, device: torch.device, extractors: Iterable[str] = ()) -> None:
    """Refuse a cell that could not train or be scored: by its own extractors, unless others are named."""
    experiment, images = cell.experiment, cell.images
    try:
        precision.require(experiment.precision, device)
        check_fit(experiment, images)
        for name in extractors or experiment.score.extractors:
            fidelity.check_images(described(name), images)
    except InputError as error:
        raise InputError(f"{cell.model} on {experiment.dataset}: {error}") from None


def check_fit(experiment: Experiment, images: ImageData) -> None:
    """Refuse an experiment whose parts do not fit each other, the data, or memory."""
    part = images.part(experiment.data_share)
    rule, loss = experiment.update.rule, experiment.loss.name
    with RULES.calling(rule):
        RULES[rule].check(experiment, len(part.images), part.labels)
    shape = shape_of(images, experiment.networks)
    check_networks(shape, experiment.networks)
    check_loss(loss)
    generator, discriminator = outlines(shape, experiment.networks)
    check_memory(experiment, generator, discriminator)
    if any(dict(penalties_of(experiment)).values()) and has_batch_norm(discriminator):
        raise InputError(
            f"{f'loss {loss}' if LOSSES[loss].penalised else 'a gradient penalty'} needs a discriminator without "
            "BatchNorm, which couples the gradients of a batch; use for example dcgan-nobn in place of "
            f"{experiment.networks.name}"
        )


def check_memory(experiment: Experiment, generator: nn.Module, discriminator: nn.Module) -> None:
    """Refuse networks that this machine's memory could not hold while they train."""
    own, other = (sum(part.numel() for part in network.parameters()) for network in (generator, discriminator))
    needed = 4 * COPIES * (own + getattr(experiment.update, "workers", 1) * other)
    if needed > (there := psutil.virtual_memory().total):
        raise InputError(
            f"networks {experiment.networks.name} of {own:,} and {other:,} parameters need "
            f"{needed / 1e9:.0f} GB of memory, this machine has {there / 1e9:.0f} GB; "
            "lower networks.width or networks.latent"
        )


# cells that differ in their seeds have the same networks; to build their outlines takes a quarter of a second
@lru_cache(maxsize=64)
def outlines(shape: Shape, config: NetworkConfig) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator without values; with values of a model from outside that needs them."""

    def build() -> tuple[nn.Module, nn.Module]:
        return build_generator(shape, config, seed=0), build_discriminator(shape, config, seed=0)

    try:
        with torch.device("meta"), Outlines():
            return build()
    except Exception:
        return build()


class Outlines(TorchFunctionMode):
    """Within, initial values are not drawn: on a device without values that would import torch's compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in VALUES:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
