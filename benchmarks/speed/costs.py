"""What surrounds the steps: start-up, evaluation, tracking, checkpoints, workers, processes."""

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

from benchmarks.matrix import Selection, cells, read_matrix
from benchmarks.speed.child import SPAWNED
from benchmarks.speed.contenders import bare
from benchmarks.speed.rounds import Times, here, interleave
from benchmarks.speed.workloads import small
from gans import devices
from gans.cell import Place, run_cell


def _child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.speed.child", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, SPAWNED: str(time.time())},
    )


def _answer(child: subprocess.Popen[str], what: str) -> dict[str, float]:
    said, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"{what} ended with exit code {child.returncode}")
    return json.loads(said.splitlines()[-1])


def start_up(model: str, device: str) -> dict[str, float]:
    """From the command to the first step of a `digits` cell in a fresh process, and its peak memory."""
    return _answer(_child("start", model, device), f"starting {model}")


def shares(model: str, device: str, threads: int, budget: float) -> dict[str, float]:
    """Seconds by part of a whole `digits` cell.

    The cell runs on a part of its images, with as many evaluations, grids, checkpoints and logs as ever; so
    only the training is scaled up.
    """
    (cell,) = cells(read_matrix("digits"), Selection([model], None, [0], budget))
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
        contenders[str(n)] = here(bare(workload.update(device)), device)
    timed = interleave(contenders, rounds, seconds)
    return {int(n): times for n, times in timed.items()}


def packing(model: str, jobs: int, threads: int, cells: int, steps: int) -> float:
    """Wall seconds of so many `digits` cells of so many steps, `jobs` at a time, on a CPU."""
    total = 0.0
    for first in range(0, cells, jobs):
        children = [
            _child("train", model, str(threads), str(steps)) for _ in range(first, min(first + jobs, cells))
        ]
        for child in children:
            assert child.stdout
            child.stdout.readline()  # ready
        for child in children:
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()
        total += max(_answer(child, f"{model} on {threads} threads")["seconds"] for child in children)
    return total


def layouts(model: str, cells: int, steps: int) -> dict[str, float]:
    """`packing` for the ways to share out the CPU: all cores to one cell, and one core to each of many."""
    cores = devices.cores()
    ways = {f"{jobs} x {cores // jobs}": jobs for jobs in sorted({1, cores}) if jobs <= cells}
    return {name: packing(model, jobs, cores // jobs, cells, steps) for name, jobs in ways.items()}
