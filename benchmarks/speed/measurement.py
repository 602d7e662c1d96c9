"""What `make speed` measures: operations and time of each model's steps, scoring."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

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


class Measurement:
    """One invocation; an InputError if there is no such device."""

    def __init__(self, command: Speed) -> None:
        self.command = command
        self.models: Sequence[str] = command.models or list(SIZES)
        self.device = devices.resolve(command.device)
        devices.prepare(self.device, devices.cores())

    def run(self) -> Page:
        about = machine(self.device, command_line("gans speed", self.command))
        about["turns"] = f"{self.command.rounds} of {SECONDS:g} s"
        about["load before"] = f"{os.getloadavg()[0]:.1f} on {devices.cores()} cores"
        page = Page("Speed of training", about)
        parts = {"operations": self.operations, "steps": self.steps, "scoring": self.scoring}
        for part in self.command.parts or parts:
            print(f"{part} ...", flush=True)
            page.sections += parts[part]()
        about["load after"] = f"{os.getloadavg()[0]:.1f}"
        return page

    def steps(self) -> list[Section]:
        workloads = [size(model) for size in (colour, small) for model in self.models]
        workloads += [papers(model) for model in self.models if self.device.type == "cuda"]
        return step_sections(pd.concat([self.timed(workload) for workload in workloads]))

    def timed(self, workload: Workload) -> pd.DataFrame:
        print(f"  {workload.name}", flush=True)
        threads = 1 if workload.name.endswith("digits") else devices.cores()  # as in the matrix
        timing = Timing(self.device, threads, self.command.rounds, SECONDS)
        found = pd.concat([timing.measure(workload, kind) for kind in self.precisions(workload)])
        return found.assign(default=workload.default(self.device))

    def precisions(self, workload: Workload) -> list[Settled]:
        """On a GPU what the model trains in, elsewhere float32 and, where there is, bf16."""
        if self.device.type == "cuda":
            return [workload.default(self.device)]
        return ["float32", "bf16"] if precision.has_bf16(self.device) else ["float32"]

    def operations(self) -> list[Section]:
        return [operations.section([size(model) for size in (colour, small) for model in self.models])]

    def scoring(self) -> list[Section]:
        from benchmarks.speed import scoring  # imports torch-fidelity, which other parts do not wait for

        return [scoring.section(self.device, self.command.count)]


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
