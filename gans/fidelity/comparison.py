"""The input of metrics: features of generated and of real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from gans.fidelity.gaussian import Gaussian
from gans.fidelity.protocol import SEED

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Features:
    """An extractor's output on n images, on its device."""

    features: Tensor  # float32 (n, dimensions)
    logits: Tensor | None = None  # float32 (n, classes); None if the extractor has none

    def __len__(self) -> int:
        return len(self.features)

    @property
    def on_device(self) -> bool:
        return self.features.device.type != "cpu"

    @cached_property
    def gaussian(self) -> Gaussian:
        return Gaussian.of(self.features)

    @cached_property
    def rough_mean(self) -> Tensor:
        """The mean (dimensions,) as NumPy adds float32 rows, hence torch-fidelity.

        Its rounding changes a Frechet distance by a relative 1e-5: a more exact mean would change scores.
        """
        return torch.from_numpy(self.features.cpu().numpy().mean(axis=0)).to(self.features.device)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Mean and covariance as torch-fidelity computes them, NumPy arrays; on a CPU only."""
        from torch_fidelity import metric_fid  # seconds to import, and planning needs the metrics' names

        return metric_fid.fid_features_to_statistics(self.features)


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images and their classes; for generated images, the input classes."""

    images: Tensor  # uint8 (n, channels, side, side)
    labels: Tensor  # int64 (n,), indices of the data's classes

    @classmethod
    def of(cls, images: Tensor, labels: Tensor | None) -> Labelled | None:
        """None without labels."""
        return None if labels is None else cls(images, labels.cpu())

    def __getitem__(self, indices: Tensor) -> Labelled:
        return Labelled(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class Real(Features):
    """The real images that generated ones are compared with.

    Attributes:
        measure_held_out: distances (k,) from held-out images to their nearest of these.
        classes: share of each class among these images, (classes,), as the classifier sees them; None if the
            extractor was not trained on the data's classes.
        labels: int64 (n,), on the features' device; None where the data have none.
        others: further real images; None if they have no labels.
    """

    measure_held_out: Callable[[], Tensor] = field(kw_only=True)
    classes: Tensor | None = field(default=None, kw_only=True)
    labels: Tensor | None = field(default=None, kw_only=True)
    others: Labelled | None = field(default=None, kw_only=True)

    @cached_property
    def held_out(self) -> Tensor:
        return self.measure_held_out()


@dataclass(frozen=True, eq=False)
class Comparison:
    """The input of a metric."""

    generated: Features
    real: Real  # of the data set's reference split
    subset_size: int  # images of each side in a subset of the kernel distance
    labelled: Labelled | None = None  # the generated images with their classes, of conditional generators
    _kept: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, compute: Callable[[], T], name: str) -> T:
        """What `compute` returns, computed for the first metric that needs it and kept under `name` for others."""
        if name not in self._kept:
            self._kept[name] = compute()
        return self._kept[name]

    @cached_property
    def classes(self) -> Tensor:
        """Share of each class among the generated images, (classes,); needs logits."""
        assert self.generated.logits is not None
        return class_shares(self.generated.logits)


def class_shares(logits: Tensor) -> Tensor:
    """The share of images, by logits (n, classes), that the classifier gives to each class: (classes,)."""
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double() / len(logits)


def sample(total: int, count: int) -> Tensor:
    """`count` of the indices 0 .. total - 1, in ascending order: the same ones every time."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))
    return order[:count].sort().values
