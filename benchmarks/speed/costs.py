"""What surrounds the steps: start-up, evaluation, tracking, checkpoints, workers, cells at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.matrix import cells, read_matrix
from benchmarks.options import Selection
from benchmarks.runner import MatrixOutcome
from benchmarks.speed.contenders import bare, session
from benchmarks.speed.page import Packed
from benchmarks.speed.rounds import Times, here, interleave
from benchmarks.speed.startup import SPAWNED
from benchmarks.speed.timing import Turns
from benchmarks.speed.workloads import small
from gans import places, schema
from gans.compute import devices
from gans.data.datasets import data_root
from gans.runs.execute import Place, run_cell
from gans.schema import Precision

BUDGET = 0.1  # share of its images that the small matrix trains on


def start_up(model: str, device: str, precision: Precision) -> dict[str, float]:
    """From the command to the first step of a `digits` cell in a fresh process, and its peak memory."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.startup", model, device, precision],
        env={**os.environ, SPAWNED: str(time.time())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def shares(model: str, device: str, threads: int, budget: float, precision: Precision) -> dict[str, float]:
    """Seconds by part of a whole `digits` cell.

    The cell runs on a part of its images, with as many evaluations, grids, checkpoints and logs as ever; so
    only the training is scaled up.
    """
    selection = Selection([model], None, [0], budget, precision)
    (cell,) = cells(read_matrix("digits"), selection, devices.resolve(device))
    before = torch.get_num_threads()
    with TemporaryDirectory() as folder:
        place = Place("speed", f"sqlite:///{folder}/mlflow.db", device, threads)
        since = time.perf_counter()
        outcome = run_cell(cell, Path(folder) / "cell", place, lambda images, values: None)
        whole = time.perf_counter() - since
    torch.set_num_threads(before)
    parts = dict(outcome.seconds)
    # checkpoints, logs, pictures; and around the training: the store, artifacts, curves
    parts["tracking and set-up"] = whole - sum(parts.values())
    parts["training"] /= budget
    return parts


def workers(counts: Sequence[int], device: torch.device, turns: Turns) -> dict[int, Times]:
    """An MD-GAN iteration against the number of workers, on `digits`."""
    contenders = {}
    for n in counts:
        workload = small("mdgan", update={"rule": "mdgan", "workers": n})
        contenders[str(n)] = here(bare(session(workload, device).training), device)
    timed = interleave(contenders, turns.rounds, turns.seconds)
    return {int(n): times for n, times in timed.items()}


def matrix(device: torch.device, precision: Precision) -> list[Packed]:
    """A small `digits` matrix, from the command to its report, against JOBS; there and back, on a GPU once."""
    cuda = device.type == "cuda"
    jobs = [1, 4, 8] if cuda else sorted({1, devices.cores(), 2 * devices.cores()})
    rows = {count: Packed(count) for count in jobs}
    for count in jobs if cuda else (*jobs, *reversed(jobs)):
        seconds, finished = _matrix(device, count, precision)
        rows[count].seconds.append(seconds)
        rows[count].finished.append(finished)
    return list(rows.values())


def _matrix(device: torch.device, jobs: int, precision: Precision) -> tuple[float, int]:
    """Wall seconds, and the number of cells that finished: on so few images one may end as diverged."""
    with TemporaryDirectory() as folder:
        flags = ["--budget", str(BUDGET), "--jobs", str(jobs), "--precision", precision]
        made = make("digits", flags, device, Path(folder))
    if not made.finished:
        raise RuntimeError(f"the matrix with {jobs} jobs ended with {made.end}")
    return made.seconds, made.finished


@dataclass(frozen=True)
class Made:
    """A matrix as `make bench` made it.

    Attributes:
        seconds: from the command to its end.
        outcome: how each cell ended; None if it came to none.
        end: exit code and last words.
    """

    seconds: float
    outcome: MatrixOutcome | None
    end: str

    @property
    def finished(self) -> int:
        return self.outcome.count(schema.FINISHED) if self.outcome else 0


def make(matrix: str, flags: Sequence[str], device: torch.device, folder: Path) -> Made:
    """Run a matrix from nothing in an empty folder, which its runs and its tracking store stay in.

    Args:
        matrix: its name.
        flags: of `python -m benchmarks`, the device excepted.
        device: what it runs on.
        folder: empty.
    """
    since = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", matrix, "--device", str(device), *flags],
        cwd=folder,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": store(folder),
            "GANS_DATA": str(data_root().absolute()),
            places.VARIABLE: "",  # in the folder, wherever the user's own go
        },
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - since
    outcome = next(map(MatrixOutcome.read, folder.glob(f"runs/*/{schema.OUTCOME}")), None)
    return Made(seconds, outcome, f"exit code {done.returncode}: {last_line(done.stderr)}")


def store(folder: Path) -> str:
    """Where a matrix that is made in a folder is tracked."""
    return f"sqlite:///{folder}/mlflow.db"


def last_line(text: str) -> str:
    """Of a program's errors the one that says what is wrong."""
    return next(reversed(text.strip().splitlines()), "nothing said")
