"""Inputs of generators, latents and labels; their distribution; and images from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from gans import seeds
from gans.config import Experiment
from gans.data.images import ImageData, to_uint8
from gans.errors import InputError, unknown

# seeds of fixed inputs are apart from training seeds: every cell is scored on the same latents
PURPOSES = {"choose": 1, "report": 2, "grid": 3}


@dataclass(frozen=True, eq=False)
class GeneratorInput:
    """The inputs for n images; a generator is called as `generator(*given)`.

    Labels are the classes of the images, int64 (n,), on the same device; between classes the share of each, float
    (n, classes); None: the generator has no classes.
    """

    z: Tensor  # latents, float (n, latent)
    labels: Tensor | None = None

    @classmethod
    def joined(cls, inputs: Sequence[GeneratorInput]) -> Self:
        """Concatenated: all with labels, or none."""
        return cls(*(torch.cat(parts) for parts in zip(*inputs, strict=True)))

    def __iter__(self) -> Iterator[Tensor]:
        """A generator's arguments."""
        yield self.z
        if self.labels is not None:
            yield self.labels

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: slice | Tensor) -> GeneratorInput:
        return GeneratorInput(*(part[rows] for part in self))

    def to(self, device: torch.device | str) -> GeneratorInput:
        return GeneratorInput(*(part.to(device) for part in self))

    def split(self, batch: int) -> list[GeneratorInput]:
        """In order, in batches of `batch`; the last one may be smaller."""
        return [GeneratorInput(*parts) for parts in zip(*(part.split(batch) for part in self), strict=True)]


class Labels:
    """Draws classes by their shares, at least 0 in any unit, on a device and without waiting for it."""

    def __init__(self, shares: Sequence[float], device: torch.device | str = "cpu") -> None:
        # the sum of the shares up to each class; the last is 1
        bounds = torch.tensor(shares, dtype=torch.float64, device="cpu").cumsum(0)
        kind = torch.float32 if torch.device(device).type == "mps" else bounds.dtype  # which has no float64
        self.bounds = (bounds / bounds[-1]).to(device, kind)

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """Classes int64 (count,) from a generator on the device; the first ones do not depend on `count`."""
        # torch.multinomial would wait for a CUDA device
        places = torch.rand(count, generator=rng, dtype=self.bounds.dtype, device=self.bounds.device)
        return torch.searchsorted(self.bounds, places, right=True)


def shares(labels: Tensor, classes: int, how: str) -> tuple[float, ...]:
    """Probability of each class: the images' proportions (`data`) or equal (`uniform`).

    A class without images is never drawn.
    """
    counts = labels.cpu().bincount(minlength=classes).double()
    weights = counts.sign() if how == "uniform" else counts
    return tuple((weights / weights.sum()).tolist())


@dataclass(frozen=True)
class Prior:
    """Distribution of a generator's inputs: z ~ N(0, 1), and labels by `shares` if it is conditional.

    Attributes:
        latent: length of z.
        classes: their names; empty: it is not conditional.
        shares: probability of each class.
    """

    latent: int
    classes: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, experiment: Experiment, data: ImageData) -> Self:
        """The distribution in training, for data that `gans.models.shape_of` accepts."""
        config, labels = experiment.networks, data.train_labels
        if not config.conditional or labels is None:
            return cls(config.latent)
        return cls(config.latent, data.classes, shares(labels, len(data.classes), experiment.labels))

    @classmethod
    def from_about(cls, about: Mapping[str, Any]) -> Self:
        """From the description in a generator's file (`about`)."""
        classes = about.get("classes", {"names": (), "shares": ()})
        return cls(int(about["networks"]["latent"]), tuple(classes["names"]), tuple(classes["shares"]))

    def about(self) -> dict[str, Any]:
        """The inverse of `from_about`, without the networks' settings; empty without classes."""
        if not self.classes:
            return {}
        return {"classes": {"names": list(self.classes), "shares": list(self.shares)}}

    def sample(self, count: int, seed: int, purpose: str) -> GeneratorInput:
        """Inputs of a seed, the same on every device (drawn on the CPU); a prefix does not depend on `count`.

        Their latents are `gans.seeds.normal_rows(count, latent, seed, purpose)`.
        """
        z = seeds.normal_rows(count, self.latent, seed, purpose)
        if not self.classes:
            return GeneratorInput(z)
        return GeneratorInput(z, Labels(self.shares).draw(count, seeds.generator(seed, purpose, "labels")))

    def fixed(self, count: int, purpose: str) -> GeneratorInput:
        """The inputs of a purpose: `choose` picks checkpoints, `report` gives final scores, `grid` draws."""
        return self.sample(count, PURPOSES[purpose], "fixed latents")

    @property
    def seen(self) -> list[int]:
        """The classes that had images in training."""
        return [number for number, share in enumerate(self.shares) if share > 0]

    def of_class(self, z: Tensor, wanted: str | int | None = None) -> GeneratorInput:
        """Inputs of the class of this name or number from 0; None: of the first of `seen`, if any."""
        if wanted is None and self.seen:
            wanted = self.seen[0]
        if wanted is None:
            return GeneratorInput(z)
        if not self.classes:
            raise InputError("this generator has no classes: it is not a conditional generator")
        return GeneratorInput(z, self.label(self.number(wanted), len(z), z.device))

    def number(self, wanted: str | int) -> int:
        """A class's number, from its name or number; an InputError if there is none, or it was never seen."""
        if isinstance(wanted, str):
            if wanted not in self.classes:
                raise unknown("class", wanted, self.classes)
            wanted = self.classes.index(wanted)
        if not 0 <= wanted < len(self.classes):
            raise InputError(f"class {wanted} is not one of {len(self.classes)}; they are counted from 0")
        if wanted not in self.seen:
            raise InputError(f"class '{self.classes[wanted]}' had no images in training; name another")
        return wanted

    @staticmethod
    def label(number: int, count: int, device: torch.device) -> Tensor:
        return torch.full((count,), number, dtype=torch.int64, device=device)


@torch.no_grad()
def generate(generator: nn.Module, code: GeneratorInput | Tensor, batch: int = 500) -> Tensor:
    """Images of an eval-mode generator on its device: uint8 (n, channels, height, width) on the CPU.

    `code` is on any device; latents (n, latent) alone will do without classes. A ValueError in training mode,
    where BatchNorm would mix the samples; a FloatingPointError for NaN: the training has diverged.
    """
    if generator.training:
        raise ValueError("a generator is sampled in eval mode; call .eval() on a copy first")
    device = next(generator.parameters()).device
    code = code if isinstance(code, GeneratorInput) else GeneratorInput(code)
    return torch.cat([to_uint8(generator(*part.to(device))).cpu() for part in code.split(batch)])
