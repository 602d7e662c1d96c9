"""Differentiable augmentation (Zhao et al. 2020, arXiv 2006.10738): D sees T(x) and T(G(z)) in all steps.

Every image is transformed independently, at random, and gradients pass to the generator. One random generator on
the device, seeded before each step, draws all numbers, so that a step can be recorded.

Images are float (n, c, h, w), in [-1, 1] as input; color leaves that range, as published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from gans.config import AUGMENTATIONS

SHIFT = 8  # translation by at most side / SHIFT
CUT = 2  # cutout of squares of side / CUT

Transform = Callable[[Tensor, torch.Generator], Tensor]


class Augmentation:
    """A sequence of transforms; seed their `rng` before every step."""

    def __init__(self, names: list[str], device: torch.device) -> None:
        self.transforms = [transform for name in names for transform in TRANSFORMS[name]]
        self.flips = "flip" in names
        self.rng = torch.Generator(device)

    @classmethod
    def of(cls, augment: str, device: torch.device) -> Self | None:
        """By the setting `augment`; None if it is empty."""
        return cls(augment.split(","), device) if augment else None

    def mirrored(self, real: Tensor) -> Tensor:
        """The real images, each mirrored with probability 1/2 if flips are on."""
        return torch.where(uniform(real, self.rng) < 0.5, real.flip(3), real) if self.flips else real

    def __call__(self, images: Tensor) -> Tensor:
        for transform in self.transforms:
            images = transform(images, self.rng)
        return images


def brightness(x: Tensor, rng: torch.Generator) -> Tensor:
    """x + u, u ~ U[-1/2, 1/2] for each image."""
    return x + (uniform(x, rng) - 0.5)


def saturation(x: Tensor, rng: torch.Generator) -> Tensor:
    """Away from, or towards, a pixel's mean over channels, by a factor of U[0, 2]; grey stays what it is."""
    mean = x.mean(dim=1, keepdim=True)
    return (x - mean) * (2 * uniform(x, rng)) + mean


def contrast(x: Tensor, rng: torch.Generator) -> Tensor:
    """Away from, or towards, an image's mean: by a factor of U[1/2, 3/2]."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (uniform(x, rng) + 0.5) + mean


def translation(x: Tensor, rng: torch.Generator) -> Tensor:
    """Moved by up to an eighth of the side along both axes; zeros, a middle grey, come in at the edges."""
    rows = shifted(x, x.shape[2], rng)
    columns = shifted(x, x.shape[3], rng)
    padded = pad(x, (1, 1, 1, 1))
    # row by row, then column by column: a gather each way, whose gradient adds no two numbers within the image
    moved = padded.gather(2, rows[:, None, :, None].expand(-1, x.shape[1], -1, padded.shape[3]))
    return moved.gather(3, columns[:, None, None, :].expand(-1, x.shape[1], x.shape[2], -1))


def shifted(x: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """For each image and place along an axis, where its pixel comes from in the padded image: int64 (n, side)."""
    most = side // SHIFT
    by = torch.randint(-most, most + 1, (len(x), 1), generator=rng, device=x.device)
    return (torch.arange(side, device=x.device) + by + 1).clamp(0, side + 1)


def cutout(x: Tensor, rng: torch.Generator) -> Tensor:
    """A square of half the side, about any pixel of the image, is set to 0."""
    rows, columns = (cut(x, side, rng) for side in x.shape[2:])
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


def cut(x: Tensor, side: int, rng: torch.Generator) -> Tensor:
    """For each image and place along an axis, whether the square covers it: bool (n, side)."""
    size = side // CUT
    centre = torch.randint(0, side + (1 - size % 2), (len(x), 1), generator=rng, device=x.device)
    place = torch.arange(side, device=x.device) - centre + size // 2
    return (place >= 0) & (place < size)


def uniform(x: Tensor, rng: torch.Generator) -> Tensor:
    """A number of U[0, 1] for each image: (n, 1, 1, 1)."""
    return torch.rand((len(x), 1, 1, 1), generator=rng, device=x.device)


TRANSFORMS: dict[str, list[Transform]] = {
    "color": [brightness, saturation, contrast],
    "translation": [translation],
    "cutout": [cutout],
    "flip": [],  # of real images only: the generator must learn this variety
}
assert tuple(TRANSFORMS) == AUGMENTATIONS
