"""What is told of a training, and to whom: statistics, costs and the history of all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from gans.training.costs import Clock, Costs
from gans.training.means import Means

# (images seen, value) by metric name
History = dict[str, list[tuple[int, float]]]


class Diverged(Exception):
    """Training cannot go on: a loss is not finite, or every latent gives the same image."""


class Observer(Protocol):
    """Who is told what happens during training."""

    def log(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images."""

    def picture(self, path: Path) -> None:
        """A picture was written."""

    def flush(self) -> None:
        """A checkpoint follows: what was logged so far will not be told again."""

    def resumed(self, history: History) -> None:
        """Training goes on from a checkpoint, before which all this was logged."""


class NullObserver:
    """An observer that ignores everything."""

    def log(self, images: int, values: Mapping[str, float]) -> None: ...

    def picture(self, path: Path) -> None: ...

    def flush(self) -> None: ...

    def resumed(self, history: History) -> None: ...


@dataclass(frozen=True)
class Log:
    """What is about to be told.

    Attributes:
        images: seen so far.
        means: of the steps' statistics; reading them waits for the device.
        more: metrics of the moment, by name.
    """

    images: int
    means: Callable[[], dict[str, float]]
    more: Mapping[str, float]


class Recorder:
    """Keeps clock and history, and tells an observer.

    Where the host queues steps ahead of the device, a log is told with the next one: by then it can be read
    without letting the device run dry.

    Args:
        device: what computes; its energy is counted if it says so.
        observer: who is told.

    Attributes:
        history: everything that was told, over all sessions of the run.
    """

    def __init__(self, device: torch.device, observer: Observer | None = None) -> None:
        self.observer = observer or NullObserver()
        self.costs = Costs(device)
        self.history: History = {}
        self.logged_training = 0.0
        self.ahead = device.type == "cuda"
        self.pending: Log | None = None

    @property
    def clock(self) -> Clock:
        return self.costs.clock

    def log(self, images: int, told: Means, more: Mapping[str, float]) -> None:
        """Tell the mean statistics since the last log, speed, costs, and `more`.

        Args:
            images: seen so far.
            told: by the steps since then; begun anew.
            more: metrics of the moment, by name.

        Raises:
            Diverged: a statistic is not finite; nothing is told then. It may be one of the log before.
        """
        self.settle()
        with self.clock.of("training"):
            means = told.fetch()
        training = self.costs.seconds["training"]
        speed = told.images / max(training - self.logged_training, 1e-9)
        told.forget()
        self.logged_training = training
        self.pending = Log(images, means, {"speed/images_per_second": speed, **self.costs.metrics(), **more})
        if not self.ahead:
            self.settle()

    def settle(self) -> None:
        """Tell what was logged last, if that is still to be done; waits for the device.

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
        self.tell(log.images, {**means, **log.more})

    def tell(self, images: int, values: Mapping[str, float]) -> None:
        """Metrics after `images` images, behind what was logged before."""
        self.settle()
        for name, value in values.items():
            self.history.setdefault(name, []).append((images, value))
        self.observer.log(images, values)

    def state(self) -> dict[str, Any]:
        """What was told and spent so far; a state that is saved follows a log, so that no mean is cut in two."""
        self.clock.switch("overhead")
        return {"seconds": self.costs.seconds, "joules": self.costs.joules, "history": self.history}

    def load(self, state: dict[str, Any]) -> None:
        self.costs.carry(state["seconds"], state["joules"])
        self.logged_training = self.costs.seconds["training"]
        self.history = state["history"]
        self.observer.resumed(self.history)
