"""A workload's row: every contender, by turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.speed import contenders
from benchmarks.speed.page import Row
from benchmarks.speed.rounds import Contender, Steps, interleave
from benchmarks.speed.stage import Stage
from benchmarks.speed.workloads import Workload
from gans.schema import Settled

Trainer = Callable[[Workload, torch.device, int], Mapping[str, Steps]]


@dataclass(frozen=True)
class Turns:
    """How long contenders are timed.

    Attributes:
        rounds: turns of each.
        seconds: what a turn takes; at least one step.
    """

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Timing:
    """Where and how steps are timed.

    Attributes:
        device: what trains.
        threads: on the CPU.
        turns: of each contender.
        trainer: makes ours and what is timed in its process (`contenders.trainer`); picklable.
    """

    device: torch.device
    threads: int
    turns: Turns
    trainer: Trainer = contenders.trainer

    def row(self, loads: Mapping[Settled, Workload]) -> Row:
        """Every contender on one workload, the large product among them.

        Args:
            loads: the workload in each precision that ours is timed in. The tutorial is timed once: its precision
                is torch's, whatever ours is.
        """
        workload = next(iter(loads.values()))
        with ExitStack() as stages:
            everyone: dict[str, Contender] = {}
            for kind, load in loads.items():
                ours = Stage(partial(self.trainer, load, self.device, self.threads), self.device)
                found = stages.enter_context(ours).contenders()
                everyone |= {f"{name} {kind}": contender for name, contender in found.items()}
            theirs = Stage(partial(contenders.tutorial, workload, self.device, self.threads), self.device)
            everyone |= stages.enter_context(theirs).contenders()
            times = interleave(everyone, self.turns.rounds, self.turns.seconds)
        rates: dict[str, float] = {
            kind: contenders.PRODUCT / times.pop(f"product {kind}").median for kind in loads
        }
        return Row(
            name=workload.name,
            note=workload.note,
            batch=workload.update(torch.device("cpu")).images_per_step,
            times=times,
            operations=contenders.operations(workload, self.device),
            default=workload.default(self.device),
            product=rates,
        )
