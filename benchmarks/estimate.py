"""What the cells of a matrix will take, said before they run: time and disk."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from benchmarks.matrix import kind_of, kinds
from gans import schema
from gans.commands.progress import duration
from gans.compute import devices
from gans.runs.cell import Cell
from gans.runs.store import MlflowRun
from gans.training.state import Training

ENOUGH = 0.2  # seconds of steps that are timed of each model
CHECKPOINTS = 3  # of a cell: the last, the one before it until the cell has ended, and the last in the store
GENERATORS = 2  # in the cell's folder and in the store
PICTURES = 3 * 2**20  # grids, curves and films, twice; what cells of 32x32 images leave


class Cost(NamedTuple):
    """What a cell of a kind takes, in seconds: for each image that it trains on, and for all else."""

    image: float
    rest: float


def costs(runs: Iterable[MlflowRun]) -> dict[str, Cost]:
    """What finished cells cost, by kind; of several of a kind the newest, which is the last."""
    found = {}
    for run in runs:
        metrics, tags = run.data.metrics, run.data.tags
        images = float(run.data.params.get("kimg", 0)) * 1000
        if tags.get(schema.STATUS) == schema.FINISHED and images and schema.TRAINING in metrics:
            rest = metrics.get(schema.EVALUATION, 0.0) + metrics.get(schema.OVERHEAD, 0.0)
            found[kind_of(run.info.run_name)] = Cost(metrics[schema.TRAINING] / images, rest)
    return found


def estimate(cells: Sequence[Cell], known: Mapping[str, Cost], device: torch.device, parallel: int) -> str:
    """What cells that are to be trained will take, in a line.

    Args:
        cells: all of them.
        known: costs by kind, of finished cells.
        device: that trains.
        parallel: how many run at a time.
    """
    tried = {kind: attempt(cell, device) for kind, cell in kinds(cells).items()}
    seconds, disk = 0.0, 0
    for cell in cells:
        pace, size = tried[kind_of(cell.name)]
        cost = known.get(kind_of(cell.name), Cost(pace, 0.0))
        seconds += (cost.image * cell.experiment.budget + cost.rest) / parallel
        disk += size
    parts = [f"expected: {duration(seconds)}, {disk / 2**20:,.0f} MiB of disk"]
    if unknown := [kind for kind in tried if kind not in known]:
        parts.append(f"scores not included, from some steps on this machine: {', '.join(unknown)}")
    if measured := [kind for kind in tried if kind in known]:
        parts.append(f"from finished cells: {', '.join(measured)}")
    return "; ".join(parts)


def attempt(cell: Cell, device: torch.device) -> tuple[float, int]:
    """Seconds per image of some steps of a cell, and bytes that it takes on disk, at most; nothing is kept."""
    training = Training(cell.experiment, cell.images, device, graph=False)
    training.step()  # the first one takes longer
    devices.wait(device)
    since, before, seconds = time.perf_counter(), training.images, 0.0
    while seconds < ENOUGH:
        training.step()
        devices.wait(device)
        seconds = time.perf_counter() - since
    generator = bytes_of(training.ema.state())
    checkpoint = bytes_of(training.state()) + generator  # with the best generator so far
    disk = CHECKPOINTS * checkpoint + GENERATORS * generator + PICTURES
    return seconds / max(1, training.images - before), disk


def bytes_of(state: object) -> int:
    """Bytes of a state in a file."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()
