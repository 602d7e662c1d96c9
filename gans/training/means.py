"""Means of the steps' statistics since the last log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gans.compute import devices
from gans.training.updates import Statistics


class Means:
    """Sums on the device. Each keeps its address from its first step on, since a recorded step adds to it.

    Attributes:
        images: of the steps since `forget`.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps: Counter[str] = Counter()
        self.images = 0

    def add(self, statistics: Statistics) -> None:
        """A step's statistics, on the device: a part of the recorded step."""
        for name, value in statistics.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(value)
            self.sums[name].add_(value)

    def count(self, names: Iterable[str], images: int) -> None:
        """A step of `images` images with statistics of these names."""
        self.steps.update(list(names))  # of a mapping, a Counter would add the values
        self.images += images

    def read(self) -> dict[str, float]:
        """The means since `forget`, each over the steps that have it; waits for the device."""
        return self.fetch()()

    def fetch(self) -> Callable[[], dict[str, float]]:
        """Start to copy the present means to the host; only calling the result waits for them."""
        names = [name for name in self.sums if self.steps[name]]
        values = devices.fetch(torch.stack([self.sums[name] / self.steps[name] for name in names]))
        return lambda: dict(zip(names, values(), strict=True))

    def forget(self) -> None:
        for total in self.sums.values():
            total.zero_()
        self.steps.clear()
        self.images = 0
