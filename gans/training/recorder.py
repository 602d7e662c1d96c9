"""The log of a training: statistics, costs, their history, and the observer that gets them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gans.compute import devices
from gans.training.costs import Costs
from gans.training.updates import Statistics

# (images seen, value) by metric name
History = dict[str, list[tuple[int, float]]]


class Diverged(Exception):
    """Training cannot continue: a loss is not finite, or all latents give the same image."""


class Observer:
    """Gets the metrics and pictures of a training; this one ignores them."""

    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""

    def picture(self, path: Path) -> None:
        """A picture that was written."""

    def flush(self) -> None:
        """A checkpoint follows: the metrics so far will not be logged again."""

    def resumed(self, history: History) -> None:
        """Training resumes from a checkpoint; `history` was logged before it."""


class Means:
    """Means of the steps' statistics, from sums on the device.

    Each sum keeps its address from its first step on, since a recorded step adds to it.

    Attributes:
        images: of the steps since `forget`.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.steps: Counter[str] = Counter()
        self.images = 0

    def add(self, statistics: Statistics) -> None:
        """Add a step's statistics, on the device, as a part of the recorded step."""
        for name, value in statistics.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(value)
        if statistics:
            torch._foreach_add_([self.sums[name] for name in statistics], list(statistics.values()))

    def count(self, names: Iterable[str], images: int) -> None:
        """Count a step of `images` images with statistics of these names."""
        self.steps.update(list(names))  # of a mapping, a Counter would add the values
        self.images += images

    def fetch(self) -> Callable[[], dict[str, float]]:
        """Start to copy the means since `forget`, each over the steps that have it; calling the result waits."""
        names = [name for name in self.sums if self.steps[name]]
        values = devices.fetch(torch.stack([self.sums[name] / self.steps[name] for name in names]))
        return lambda: dict(zip(names, values(), strict=True))

    def forget(self) -> None:
        for total in self.sums.values():
            total.zero_()
        self.steps.clear()
        self.images = 0


class Recorder:
    """Measures costs, keeps the history, and calls the observer.

    Where the host queues steps ahead of the device, the observer gets a log together with the next one: then
    reading it does not leave the device without work.

    Attributes:
        history: of all sessions of the run.
        pending: a log that the observer does not have yet: images, the means, which wait for the device, and more.
    """

    def __init__(self, device: torch.device, observer: Observer | None = None) -> None:
        self.observer = observer or Observer()
        self.costs = Costs(device)
        self.history: History = {}
        self.logged_training = 0.0
        self.ahead = device.type == "cuda"
        self.pending: tuple[int, Callable[[], dict[str, float]], Mapping[str, float]] | None = None

    def log(self, images: int, means: Means, more: Mapping[str, float]) -> None:
        """Log and reset the steps' means, with speed, costs and `more`.

        Raises:
            Diverged: a statistic is not finite, possibly of the previous log; nothing is logged then.
        """
        self.settle()
        with self.costs.of("training"):
            read = means.fetch()
        training = self.costs.seconds["training"]
        speed = means.images / max(training - self.logged_training, 1e-9)
        means.forget()
        self.logged_training = training
        self.pending = images, read, {"speed/images_per_second": speed, **self.costs.timing(), **more}
        if not self.ahead:
            self.settle()

    def settle(self) -> None:
        """Give the observer the pending log, if there is one; waits for the device.

        Raises:
            Diverged: as `log`.
        """
        if self.pending is None:
            return
        (images, read, more), self.pending = self.pending, None
        with self.costs.of("training"):
            means = read()
        for name, value in means.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at {images / 1000:.1f} kimg")
        self.report(images, {**means, **more})

    def report(self, images: int, values: Mapping[str, float]) -> None:
        """Record metrics after `images` images, after the pending log."""
        self.settle()
        for name, value in values.items():
            self.history.setdefault(name, []).append((images, value))
        self.observer.log(images, values)

    def state(self) -> dict[str, Any]:
        """Save after a log only, so that no mean is interrupted."""
        self.costs.switch("overhead")
        return {"seconds": self.costs.seconds, "joules": self.costs.joules, "history": self.history}

    def load(self, state: dict[str, Any]) -> None:
        self.costs.carry(state["seconds"], state["joules"])
        self.logged_training = self.costs.seconds["training"]
        self.history = state["history"]
        self.observer.resumed(self.history)
