"""What surrounds the steps: start-up, evaluation, tracking, checkpoints, workers, cells at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
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
from benchmarks.speed.workloads import small
from gans import schema
from gans.compute import devices
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


def workers(counts: Sequence[int], device: torch.device, rounds: int, seconds: float) -> dict[int, Times]:
    """An MD-GAN iteration against the number of workers, on `digits`."""
    contenders = {}
    for n in counts:
        workload = small("mdgan", update={"rule": "mdgan", "workers": n})
        contenders[str(n)] = here(bare(session(workload, device).training), device)
    timed = interleave(contenders, rounds, seconds)
    return {int(n): times for n, times in timed.items()}


def matrix(device: torch.device, precision: Precision) -> list[Packed]:
    """A small `digits` matrix, from the command to its report, against JOBS; there and back."""
    jobs = [1, 2, 4, 8] if device.type == "cuda" else sorted({1, devices.cores(), 2 * devices.cores()})
    rows = {count: Packed(count) for count in jobs}
    for count in (*jobs, *reversed(jobs)):
        seconds, finished = _matrix(device, count, precision)
        rows[count].seconds.append(seconds)
        rows[count].finished.append(finished)
    return list(rows.values())


def _matrix(device: torch.device, jobs: int, precision: Precision) -> tuple[float, int]:
    """Wall seconds, and the number of cells that finished: on so few images one may end as diverged."""
    with TemporaryDirectory() as folder:
        flags = ["--budget", str(BUDGET), "--jobs", str(jobs), "--device", str(device), "--precision", precision]
        since = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "digits", *flags],
            cwd=folder,
            env={**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - since
        told = [MatrixOutcome.read(path) for path in Path(folder).glob(f"runs/*/{schema.OUTCOME}")]
    finished = sum(outcome.count(schema.FINISHED) for outcome in told)
    if not finished:
        raise RuntimeError(f"the matrix with {jobs} jobs ended with exit code {done.returncode}: {done.stderr}")
    return seconds, finished
