"""What `make speed` measures: each model's trainer beside others, cells, matrices and scoring."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import partial

import torch

from benchmarks.speed import contenders, costs
from benchmarks.speed.options import Speed
from benchmarks.speed.page import Page, Row
from benchmarks.speed.rounds import Contender, interleave
from benchmarks.speed.stage import Stage
from benchmarks.speed.workloads import SIZES, Workload, colour, small
from gans.commands import options
from gans.compute import devices, precision, recorded
from gans.errors import unknown
from gans.registry import MODELS
from gans.schema import Precision

Tell = Callable[[str], None]


class Measurement:
    """One invocation."""

    def __init__(self, asked: Speed, tell: Tell) -> None:
        self.asked, self.tell = asked, tell
        self.models = asked.models or (["dcgan"] if asked.quick else list(SIZES))
        for model in self.models:
            if model not in SIZES:
                raise unknown("model", model, SIZES)
        self.rounds = min(3, asked.rounds) if asked.quick else asked.rounds
        self.device = devices.resolve(asked.device)
        recorded.wanted(asked.graph, self.device)
        self.threads = asked.threads or devices.cores()
        devices.prepare(self.device, self.threads)
        self.bf16 = precision.has_bf16(self.device) and asked.precision != "float32"
        if asked.precision == "bf16":
            precision.require("bf16", self.device)
        self.cells_precision: Precision = asked.precision or "auto"
        self.page = Page(self.machine())

    def machine(self) -> dict[str, str]:
        precise = self.cells_precision
        return {
            "device type": self.device.type,
            "device": devices.describe(self.device),
            "torch": torch.__version__,
            "threads": str(self.threads),
            "whole cells train in": "their default precision" if precise == "auto" else precise,
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "load before": f"{os.getloadavg()[0]:.1f} on {devices.cores()} cores",
            "date": date.today().isoformat(),
            "command": options.command("speed", self.asked),
        }

    def run(self) -> Page:
        for size, make in (("32x32", colour), ("digits", small)):
            for model in self.models:
                self.tell(f"{model} {size}")
                # a digits cell has one thread in the matrix
                threads = self.threads if size == "32x32" else 1
                self.page.rows.append(self.row(make(model), make(model, "bf16"), threads))
        for model in self.models:
            self.tell(f"start-up of {model}")
            self.page.start_up[model] = costs.start_up(model, str(self.device), self.cells_precision)
        if not self.asked.quick:
            self.surroundings()
        self.page.machine["load after"] = f"{os.getloadavg()[0]:.1f}"
        return self.page

    def row(self, workload: Workload, in_bf16: Workload, threads: int) -> Row:
        """Every contender on one workload, the large product among them."""
        ours = partial(contenders.trainer, device=self.device, threads=threads, graph=self.asked.graph)
        kinds = {"float32": workload} | ({"bf16": in_bf16} if self.bf16 else {})
        with ExitStack() as stages:
            everyone: dict[str, Contender] = {}
            for kind, load in kinds.items():
                stage = stages.enter_context(Stage(partial(ours, load), self.device))
                everyone |= {f"{name} {kind}": contender for name, contender in stage.contenders().items()}
            theirs = Stage(partial(contenders.tutorial, workload, self.device, threads), self.device)
            everyone |= stages.enter_context(theirs).contenders()
            times = interleave(everyone, self.rounds, 0.2 if self.asked.quick else self.asked.seconds)
        rates = {kind: contenders.PRODUCT / times.pop(f"product {kind}").median for kind in kinds}
        e = workload.experiment
        batch = workload.update(torch.device("cpu")).images_per_step
        operations = contenders.operations(workload, self.device)
        default = precision.resolve("auto", self.device, MODELS[e.networks.name])
        return Row(workload.name, workload.note, batch, times, operations, default, rates)

    def surroundings(self) -> None:
        from benchmarks.speed import scoring  # imports torch-fidelity, which QUICK=1 needs not wait for

        for model in self.models:
            self.tell(f"a whole cell of {model}")
            self.page.shares[model] = costs.shares(model, str(self.device), 1, 0.05, self.cells_precision)
        if "mdgan" in self.models:
            self.tell("MD-GAN's workers")
            with limited(1):
                self.page.workers = costs.workers((1, 3, 5, 10), self.device, self.rounds, self.asked.seconds)
        self.tell("matrices")
        self.page.matrix = costs.matrix(self.device, self.cells_precision)
        self.tell("scoring")
        self.page.scoring = scoring.rows(self.device)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """So many CPU threads in this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
