"""Steps of training: our trainer, its arithmetic alone, the tutorial's way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.rounds import Step, contenders, interleave
from benchmarks.speed.tutorial import Tutorial, seed
from benchmarks.speed.workloads import Workload
from gans.compute import devices
from gans.training.recorder import Recorder
from gans.training.state import Training
from gans.training.updates import Update


@dataclass(frozen=True)
class Timing:
    """How steps are timed."""

    device: torch.device
    threads: int  # on the CPU
    rounds: int  # turns of each contender
    seconds: float  # of a turn, at least one step
    graph: bool | None = None  # whether our steps are recorded as CUDA graphs; None: on CUDA
    compile: bool = False  # whether our networks go through torch.compile

    def measure(self, workload: Workload) -> pd.DataFrame:
        """A row for each round: what is timed, and seconds per step of ours, bare and tutorial."""
        make_ours, make_theirs = partial(self.ours, workload), partial(self.tutorial, workload)
        with contenders(make_ours, self.device) as ours, contenders(make_theirs, self.device) as theirs:
            seconds = interleave(ours | theirs, self.rounds, self.seconds)
        return seconds.assign(workload=workload.name, precision=workload.experiment.precision)

    def ours(self, workload: Workload) -> dict[str, Step]:
        """Our trainer, and its arithmetic alone on the same networks."""
        devices.prepare(self.device, self.threads)
        training = Training(workload.experiment, workload.data, self.device, self.graph, compile=self.compile)
        return {"ours": partial(train, training, Recorder(self.device)), "bare": bare(training)}

    def tutorial(self, workload: Workload) -> dict[str, Step]:
        """The same networks, batch and losses as tutorials train them, in a process as they leave it."""
        torch.set_num_threads(self.threads)
        seed()
        return {"tutorial": Tutorial(workload, self.device, Path(os.devnull).open("w")).step}


def train(training: Training, recorder: Recorder) -> None:
    """All that training does between evaluations: statistics, average of weights, clocks, logs when due."""
    with recorder.costs.of("training"):
        training.step()
    if training.due("logs"):
        recorder.log(training.images, training.means, training.update.metrics())


def bare(training: Training) -> Step:
    """The arithmetic of a step alone, prepared once: on the same images every time; MD-GAN swaps never.

    A recorded step is replayed, with the average of weights and the sums of statistics that are in it.
    """
    runner = training.runner
    if not runner.recorder:
        training.update.prepare(0)
        return training.update.compute

    def replay() -> None:
        while runner.graph is None:
            training.step()
        runner.graph.replay()

    return replay


def operations(update: Update) -> int:
    """Floating-point operations of one step: matrix products and convolutions, a multiply-add counted as two."""
    update.prepare(0)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()  # type: ignore[assignment]
    with counter:
        update.compute()
    return counter.get_total_flops()


class NoModules:
    """In place of torch's tracker of modules, whose hooks fail at the gradient of a gradient."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
