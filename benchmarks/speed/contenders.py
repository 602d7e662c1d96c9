"""Who is timed: our trainer, its arithmetic alone, the tutorial's way."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.rounds import Steps
from benchmarks.speed.tutorial import Tutorial, seeded
from benchmarks.speed.workloads import Workload
from gans import schema
from gans.compute import devices
from gans.compute.graphs import StepRunner
from gans.compute.precision import products
from gans.schema import Settled
from gans.training.checkpoints import Checkpoints
from gans.training.evaluation import Curve
from gans.training.loop import Session
from gans.training.recorder import Recorder
from gans.training.state import Training
from gans.training.updates import Update


class Unasked:
    """An evaluator for trainings that are never evaluated: speed is measured between evaluations."""

    metric, n = "none", 0

    def distance(self, images: Tensor) -> float:
        raise NotImplementedError("nothing is scored while speed is measured")


def trainer(
    workload: Workload,
    device: torch.device,
    threads: int,
    graph: bool | None = None,
    compile: bool = False,
) -> dict[str, Steps]:
    """Our trainer, its arithmetic alone on the same networks, and the machine's own large product beside them."""
    devices.prepare(device, threads)
    run, dense = session(workload, device, graph, compile), product(device, workload.experiment.precision)
    return {"ours": ours(run), "bare": bare(run.training), "product": dense}


def tutorial(workload: Workload, device: torch.device, threads: int) -> dict[str, Steps]:
    """The same networks, batch and losses as tutorials train them, in a process as they leave it."""
    torch.set_num_threads(threads)
    seeded()
    trainer = Tutorial(workload, device, Path(os.devnull).open("w"))  # noqa: SIM115

    def steps(count: int) -> None:
        for _ in range(count):
            trainer.step()

    return {"tutorial": steps}


def session(workload: Workload, device: torch.device, graph: bool | None = None, compile: bool = False) -> Session:
    """The real trainer, in a folder that is gone: it scores and saves nothing."""
    recorder = Recorder(device)
    run = Training(workload.experiment, workload.data, device, graph, compile=compile)
    with TemporaryDirectory() as gone:
        folder = Path(gone)
        curve = Curve(Unasked(), run, folder / schema.GENERATOR)
        return Session(run, curve, recorder, folder, Checkpoints(folder))


def ours(run: Session) -> Steps:
    """All that training does between evaluations: statistics, average of weights, clocks, logs when due."""

    def steps(count: int) -> None:
        for _ in range(count):
            run.step()
            if run.training.due("logs"):
                run.log()

    return steps


def bare(training: Training) -> Steps:
    """The arithmetic of a step alone, prepared once: on the same images every time; MD-GAN swaps never.

    What was recorded is replayed, with the average of weights and the sums of statistics that are in it.
    """
    if training.runner.recorder:
        return replayed(training, training.runner)
    return played(training.update)


def played(update: Update) -> Steps:
    """Both networks' passes and optimiser steps."""
    update.prepare(0)

    def steps(count: int) -> None:
        for _ in range(count):
            update.compute()

    return steps


def replayed(training: Training, runner: StepRunner) -> Steps:
    """The recorded step again and again."""

    def steps(count: int) -> None:
        while runner.graph is None:
            training.step()
        for _ in range(count):
            runner.graph.replay()

    return steps


def operations(workload: Workload, device: torch.device) -> int:
    """Floating-point operations of one step: matrix products and convolutions, a multiply-add counted as two."""
    steps = played(workload.update(device))
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()  # type: ignore[assignment]
    with counter:
        steps(1)
    return counter.get_total_flops()


class NoModules:
    """In place of torch's tracker of modules, whose hooks do not bear the gradient of a gradient."""

    parents = ("Global",)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


SIDE = 2048
PRODUCT = 2 * SIDE**3  # operations of a step of `product`


def product(device: torch.device, precision: Settled) -> Steps:
    """The machine's own large matrix product, SIDE x SIDE, in a precision."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))

    def steps(count: int) -> None:
        with products(precision, device):  # as a step is: in tf32 on TF32 cores
            for _ in range(count):
                torch.mm(a, b)

    return steps
