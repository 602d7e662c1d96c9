"""What `make speed` measures: each model's trainer beside others, cells, matrices and scoring."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial

import torch

from benchmarks.speed import contenders, costs
from benchmarks.speed.options import Speed
from benchmarks.speed.page import Page
from benchmarks.speed.timing import Timing, Turns
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans.commands import options
from gans.compute import devices, graphs, precision
from gans.errors import unknown
from gans.schema import Precision, Settled

Tell = Callable[[str], None]
Make = Callable[[str], Workload]


@dataclass(frozen=True)
class Plan:
    """What a kind of device has time for.

    Attributes:
        turns: of each contender, unless asked for others.
        sizes: of workloads, by name.
    """

    turns: Turns
    sizes: dict[str, Make]


# twenty minutes on two cores
ON_CPU = Plan(Turns(5, 1.0), {"32x32": colour, "digits": small})
# Under eight minutes, reckoned and not yet measured: 15 rows of 15 s (10 s of it two processes that start; then
# four contenders have three turns of 0.3 s each, with lead-in and pauses), 5 starts of 6 s, 5 cells of 8 s,
# MD-GAN's workers 20 s, 3 matrices of 30 s and scoring 30 s are 7 minutes. Steps take milliseconds.
ON_GPU = Plan(Turns(3, 0.3), ON_CPU.sizes | {"recipe": papers})
QUICK = Turns(3, 0.2)
PLANS = {"cpu": ON_CPU, "cuda": ON_GPU}


class Measurement:
    """One invocation."""

    def __init__(self, asked: Speed, tell: Tell) -> None:
        self.asked, self.tell = asked, tell
        self.models = asked.models or (["dcgan"] if asked.quick else list(SIZES))
        for model in self.models:
            if model not in SIZES:
                raise unknown("model", model, SIZES)
        self.device = devices.resolve(asked.device)
        graphs.wanted(asked.graph, self.device)
        self.threads = asked.threads or devices.cores()
        devices.prepare(self.device, self.threads)
        self.plan = PLANS[self.device.type]
        self.turns = self.settle(self.plan.turns)
        if asked.precision:
            precision.require(asked.precision, self.device)
        self.cells_precision: Precision = asked.precision or "auto"
        self.page = Page(self.machine())

    def settle(self, usual: Turns) -> Turns:
        """The device's turns, but for what was asked for."""
        turns = Turns(self.asked.rounds or usual.rounds, self.asked.seconds or usual.seconds)
        return Turns(min(QUICK.rounds, turns.rounds), QUICK.seconds) if self.asked.quick else turns

    def kinds(self, workload: Workload) -> list[Settled]:
        """What ours is timed in: on a GPU what it trains in, elsewhere float32 and what is to be had beside it."""
        if self.device.type == "cuda":
            return [self.asked.precision or workload.default(self.device)]
        bf16 = precision.has_bf16(self.device) and self.asked.precision != "float32"
        return ["float32", "bf16"] if bf16 else ["float32"]

    def machine(self) -> dict[str, str]:
        precise = self.cells_precision
        return {
            "device type": self.device.type,
            "device": devices.describe(self.device),
            "torch": torch.__version__,
            "threads": str(self.threads),
            "whole cells train in": "their default precision" if precise == "auto" else precise,
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "turns": f"{self.turns.rounds} of {self.turns.seconds:g} s",
            "load before": f"{os.getloadavg()[0]:.1f} on {devices.cores()} cores",
            "date": date.today().isoformat(),
            "command": options.command("speed", self.asked),
        }

    def run(self) -> Page:
        for size, make in self.plan.sizes.items():
            # a digits cell has one thread in the matrix
            timing = self.timing(1 if size == "digits" else self.threads)
            for model in self.models:
                self.tell(f"{model} {size}")
                workload = make(model)
                self.page.rows.append(timing.row({k: workload.trained_in(k) for k in self.kinds(workload)}))
        for model in self.models:
            self.tell(f"start-up of {model}")
            self.page.start_up[model] = costs.start_up(model, str(self.device), self.cells_precision)
        if not self.asked.quick:
            self.surroundings()
        self.page.machine["load after"] = f"{os.getloadavg()[0]:.1f}"
        return self.page

    def timing(self, threads: int) -> Timing:
        return Timing(self.device, threads, self.turns, partial(contenders.trainer, graph=self.asked.graph))

    def surroundings(self) -> None:
        from benchmarks.speed import assessing  # imports torch-fidelity, which QUICK=1 needs not wait for

        for model in self.models:
            self.tell(f"a whole cell of {model}")
            self.page.shares[model] = costs.shares(model, str(self.device), 1, 0.05, self.cells_precision)
        if "mdgan" in self.models:
            self.tell("MD-GAN's workers")
            with limited(1):
                self.page.workers = costs.workers((1, 3, 5, 10), self.device, self.turns)
        self.tell("matrices")
        self.page.matrix = costs.matrix(self.device, self.cells_precision)
        self.tell("scoring")
        self.page.scoring = assessing.rows(self.device)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """So many CPU threads in this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
