"""What a matrix will take, said before it runs: time and disk."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.matrix import kinds
from gans.commands.progress import Cost, Forecast, duration, kind_of
from gans.compute import devices
from gans.runs.cell import Cell
from gans.training.state import Training

STEPS = 2  # that are timed of a model of which nothing is known, after a first one
LONG = 0.7  # seconds; a first step that took longer is enough: what comes first only costs tenths
BRIEF = 0.1  # seconds; after a first step that took longer, one is timed
# what does not change how long a step takes
APART = {"dataset", "seed", "kimg", "score", "schedule"}
CHECKPOINTS = 3  # of a cell: the last, the one before it until the cell has ended, and the last in the store
GENERATORS = 2  # in the cell's folder and in the store
PICTURES = 3 * 2**20  # grids, curves and films, twice; what cells of 32x32 images leave


@dataclass(frozen=True)
class Tried:
    """What a few steps of a cell showed.

    Attributes:
        cost: of training alone.
        disk: bytes that the cell takes, at most.
    """

    cost: Cost
    disk: int


def attempt(cell: Cell, device: torch.device) -> Tried:
    """Take a few steps of a cell, which nothing is kept of."""
    training = Training(cell.experiment, cell.images, device, graph=False)
    seconds, images = timed(training, 1)
    if seconds < LONG:
        seconds, images = timed(training, STEPS if seconds < BRIEF else 1)
    image = seconds / max(1, images)
    generator = size(training.ema.state())
    checkpoint = size(training.state()) + generator  # with the best generator so far
    return Tried(Cost(image, 0.0), CHECKPOINTS * checkpoint + GENERATORS * generator + PICTURES)


def timed(training: Training, steps: int) -> tuple[float, int]:
    """Seconds that some steps take, and the images that they show."""
    since, before = time.perf_counter(), training.images
    for _ in range(steps):
        training.step()
    devices.wait(training.device)
    return time.perf_counter() - since, training.images - before


def size(state: Any) -> int:
    """Bytes of all tensors in a state."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    parts = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(size, parts))


@dataclass(frozen=True)
class Estimate:
    """What cells that are to be trained will take.

    Attributes:
        seconds: until the last one ends.
        disk: bytes in the runs' folder and the tracking store.
        measured: kinds whose whole cost is known, of finished cells.
        tried: kinds of which some steps were taken.
    """

    seconds: float
    disk: int
    measured: tuple[str, ...]
    tried: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"expected: {duration(self.seconds)}, {self.disk / 2**20:,.0f} MiB of disk"]
        if self.tried:
            parts.append(f"scores not included, from a few steps on this machine: {', '.join(self.tried)}")
        if self.measured:
            parts.append(f"from finished cells: {', '.join(self.measured)}")
        return "; ".join(parts)


def estimate(cells: Iterable[Cell], known: Mapping[str, Cost], device: torch.device, abreast: int) -> Estimate:
    """What cells will take that are to be trained.

    Args:
        cells: all of them.
        known: costs by kind, of finished cells.
        device: that trains.
        abreast: how many run at a time.
    """
    waiting = {cell.name: cell for cell in cells}
    tries: dict[str, Tried] = {}
    tried: dict[str, Tried] = {}
    for kind, cell in kinds(waiting.values()).items():
        if (same := work(cell)) not in tries:
            tries[same] = attempt(cell, device)
        tried[kind] = tries[same]
    costs = {kind: known.get(kind, one.cost) for kind, one in tried.items()}
    forecast = Forecast({name: cell.experiment.budget for name, cell in waiting.items()}, costs)
    forecast.abreast = max(1, abreast)
    return Estimate(
        seconds=forecast.left((), 0.0) or 0.0,
        disk=sum(tried[kind_of(name)].disk for name in waiting),
        measured=tuple(kind for kind in tried if kind in known),
        tried=tuple(kind for kind in tried if kind not in known),
    )


def work(cell: Cell) -> str:
    """What a step of a cell does: on images of one shape, the same for all data sets."""
    return f"{cell.images.channels} {cell.experiment.model_dump_json(exclude=APART)}"
