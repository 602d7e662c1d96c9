"""The log of a training: statistics, costs, their history, and the observer that gets them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from gans.training.costs import Clock, Costs
from gans.training.means import Means

# (images seen, value) by metric name
History = dict[str, list[tuple[int, float]]]


class Diverged(Exception):
    """Training cannot go on: a loss is not finite, or every latent gives the same image."""


class Observer(Protocol):
    """Gets the metrics and pictures of a training."""

    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""

    def picture(self, path: Path) -> None:
        """A picture that was written."""

    def flush(self) -> None:
        """A checkpoint follows: what was logged so far will not come again."""

    def resumed(self, history: History) -> None:
        """Training goes on from a checkpoint; this was logged before it."""


class NullObserver:
    """An observer that ignores everything."""

    def log(self, images: int, values: Mapping[str, float]) -> None: ...

    def picture(self, path: Path) -> None: ...

    def flush(self) -> None: ...

    def resumed(self, history: History) -> None: ...


class Pending(NamedTuple):
    """A log that the observer does not have yet; reading its means waits for the device."""

    images: int
    means: Callable[[], dict[str, float]]
    more: Mapping[str, float]


class Recorder:
    """Keeps the clock and the history, and calls the observer.

    Where the host queues steps ahead of the device, the observer gets a log together with the next one: by then it
    can be read without a wait in which the device would run out of work.

    Attributes:
        history: of all sessions of the run.
    """

    def __init__(self, device: torch.device, observer: Observer | None = None) -> None:
        self.observer = observer or NullObserver()
        self.costs = Costs(device)
        self.history: History = {}
        self.logged_training = 0.0
        self.ahead = device.type == "cuda"
        self.pending: Pending | None = None

    @property
    def clock(self) -> Clock:
        return self.costs.clock

    def log(self, images: int, means: Means, more: Mapping[str, float]) -> None:
        """Log the steps' means, which begin anew, speed, costs and `more`.

        Raises:
            Diverged: a statistic is not finite, maybe one of the log before; nothing is logged then.
        """
        self.settle()
        with self.clock.of("training"):
            read = means.fetch()
        training = self.costs.seconds["training"]
        speed = means.images / max(training - self.logged_training, 1e-9)
        means.forget()
        self.logged_training = training
        self.pending = Pending(images, read, {"speed/images_per_second": speed, **self.costs.metrics(), **more})
        if not self.ahead:
            self.settle()

    def settle(self) -> None:
        """Give the observer the pending log, if there is one; waits for the device.

        Raises:
            Diverged: as `log`.
        """
        if self.pending is None:
            return
        log, self.pending = self.pending, None
        with self.clock.of("training"):
            means = log.means()
        for name, value in means.items():
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at {log.images / 1000:.1f} kimg")
        self.report(log.images, {**means, **log.more})

    def report(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images, behind what was logged before."""
        self.settle()
        for name, value in values.items():
            self.history.setdefault(name, []).append((images, value))
        self.observer.log(images, values)

    def state(self) -> dict[str, Any]:
        """A state that is saved follows a log, so that no mean is cut in two."""
        self.clock.switch("overhead")
        return {"seconds": self.costs.seconds, "joules": self.costs.joules, "history": self.history}

    def load(self, state: dict[str, Any]) -> None:
        self.costs.carry(state["seconds"], state["joules"])
        self.logged_training = self.costs.seconds["training"]
        self.history = state["history"]
        self.observer.resumed(self.history)
