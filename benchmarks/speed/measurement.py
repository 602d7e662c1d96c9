"""What `make speed` measures: operations and time of each model's steps, scoring."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pandas as pd
import torch

from benchmarks.speed import operations
from benchmarks.speed.page import Page, Section, machine
from benchmarks.speed.steps import Timing, ratio
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans.commands.options import command_line
from gans.compute import devices, precision
from gans.schema import Settled

if TYPE_CHECKING:
    from benchmarks.speed.commands import Speed

SECONDS = 1.0  # of a turn


def measure(command: Speed, device: torch.device) -> Page:
    """What the command asks for, in a page."""
    devices.prepare(device, devices.cores())
    about = machine(device, command_line("gans speed", command))
    about["turns"] = f"{command.rounds} of {SECONDS:g} s"
    about["load before"] = f"{os.getloadavg()[0]:.1f} on {devices.cores()} cores"
    page, models = Page("Speed of training", about), command.models or SIZES
    workloads = [size(model) for size in (colour, small) for model in models]
    for part in command.parts or ("operations", "steps", "scoring"):
        print(f"{part} ...", flush=True)
        if part == "operations":
            page.sections.append(operations.section(workloads))
        elif part == "steps":
            at_papers = [papers(model) for model in models if device.type == "cuda"]
            timings = [timed(workload, device, command.rounds) for workload in (*workloads, *at_papers)]
            page.sections += step_sections(pd.concat(timings))
        else:
            from benchmarks.speed import scoring  # imports torch-fidelity, which other parts do not wait for

            page.sections.append(scoring.section(device, command.count))
    about["load after"] = f"{os.getloadavg()[0]:.1f}"
    return page


def timed(workload: Workload, device: torch.device, rounds: int) -> pd.DataFrame:
    """On a GPU in what the model trains in, elsewhere in float32 and, where there is, bf16."""
    print(f"  {workload.name}", flush=True)
    threads = 1 if workload.name.endswith("digits") else devices.cores()  # as in the matrix
    timing, default = Timing(device, threads, rounds, SECONDS), workload.default(device)
    both: list[Settled] = ["float32", "bf16"] if precision.has_bf16(device) else ["float32"]
    kinds = [default] if device.type == "cuda" else both
    return pd.concat([timing.measure(workload, kind) for kind in kinds]).assign(default=default)


def step_sections(rounds: pd.DataFrame) -> list[Section]:
    """Times from the rounds of all workloads, and what these are."""
    rows = []
    for (name, kind), own in rounds.groupby(["workload", "precision"], sort=False):
        ours, tutorial = (f"{1000 * own[who].median():.4g}" for who in ("ours", "tutorial"))
        overhead = f"{100 * ((own['ours'] / own['bare']).median() - 1):+.1f} %"
        mark = "**" if kind == own["default"].iloc[0] else ""
        rows.append([name, kind, ours, overhead, tutorial, f"{mark}{ratio(own['tutorial'], own['ours'])}{mark}"])
    table = pd.DataFrame(rows, columns=["workload", "in", "ours", "overhead", "tutorial", "tutorial / ours"])
    workloads = rounds.groupby("workload", sort=False)["is"].first().reset_index()
    return [Section("Steps", STEPS, table, rounds), Section("Workloads", "", workloads, workloads)]


STEPS = """Milliseconds per step, medians of rounds. All contenders take a turn in every round, so they meet the
same machine; ratios are taken round by round, with the smallest and the largest. *Ours* is the real trainer
without evaluation; *overhead* is ours against its arithmetic alone, on the same networks and one batch again and
again; *tutorial* is how PyTorch's DCGAN tutorial trains (`tutorial.py`) on the same networks, batch and loss, in
torch's default precision (float32; on CUDA, TF32 in convolutions), in a process of its own. **Bold** is the
precision that this machine trains in by default. `digits` cells have one thread, as in the matrix; `recipe` is a
model at its paper's width. `docs/speed-log.md` has what was tried."""
