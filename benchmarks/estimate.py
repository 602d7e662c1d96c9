"""Estimates of time and disk for the cells of a matrix, from some steps of each model."""

import io
import time
from collections.abc import Sequence

import torch

from benchmarks.matrix import kind_of, kinds
from gans.commands.progress import duration
from gans.compute import devices
from gans.runs.cell import Cell
from gans.training.state import Training

ENOUGH = 0.2  # seconds of steps that are timed
CHECKPOINTS = 3  # of a cell: the last, the one before it until the cell has ended, and the last in the store
GENERATORS = 2  # in the cell's folder and in the store
PICTURES = 3 * 2**20  # grids, curves and films, twice; what cells of 32x32 images leave


def estimate(cells: Sequence[Cell], device: torch.device, parallel: int) -> str:
    """What cells that are to be trained will take, so many at a time."""
    tried = {kind: attempt(cell, device) for kind, cell in kinds(cells).items()}
    found = [(cell.experiment.budget, *tried[kind_of(cell.name)]) for cell in cells]
    seconds = sum(budget * pace for budget, pace, _ in found) / parallel
    disk = sum(size for _, _, size in found) / 2**20
    training = f"{duration(seconds)} of training, without scores"
    return f"estimated from some steps of each model: {training}; {disk:,.0f} MiB of disk"


def attempt(cell: Cell, device: torch.device) -> tuple[float, int]:
    """Seconds per image of some steps of a cell, and its bytes on disk at most; nothing is kept."""
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
    return seconds / (training.images - before), disk


def bytes_of(state: object) -> int:
    """Of a state in a file."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.tell()
