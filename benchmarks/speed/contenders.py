"""Who is timed: our trainer, its arithmetic alone, the tutorial's way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.rounds import Steps
from benchmarks.speed.tutorial import Tutorial, seeded
from benchmarks.speed.workloads import Workload
from gans.compute import devices
from gans.config import Precision
from gans.training.graphs import Graph
from gans.training.loop import Silent, Training
from gans.training.mdgan.server import MDGAN
from gans.training.mdgan.workers import LocalTeam
from gans.training.updates import TwoPlayer, Update


class Unasked:
    """An evaluator for trainings that are never evaluated: speed is measured between evaluations."""

    metric, n = "none", 0

    def distance(self, images: Tensor) -> float:
        raise NotImplementedError("nothing is scored while speed is measured")


def trainer(workload: Workload, device: torch.device, threads: int, graph: bool = False) -> dict[str, Steps]:
    """Our trainer, its arithmetic alone on the same networks, and the machine's own large product beside them."""
    devices.prepare(device, threads)
    run = training(workload, device, graph)
    return {"ours": ours(run), "bare": bare(run.steps), "product": product(device, workload.experiment.precision)}


def tutorial(workload: Workload, device: torch.device, threads: int) -> dict[str, Steps]:
    """The same networks, batch and losses as tutorials train them, in a process as they leave it."""
    torch.set_num_threads(threads)
    seeded()
    trainer = Tutorial(workload, device, Path(os.devnull).open("w"))  # noqa: SIM115

    def steps(count: int) -> None:
        for _ in range(count):
            trainer.step()

    return {"tutorial": steps}


def training(workload: Workload, device: torch.device, graph: bool = False) -> Training:
    """The real trainer, in a folder that is gone: it scores and saves nothing."""
    with TemporaryDirectory() as folder:
        return Training(workload.experiment, workload.data, Path(folder), device, Unasked(), Silent(), graph)


def ours(run: Training) -> Steps:
    """All that training does between evaluations: statistics, average of weights, clocks, logs when due."""

    def steps(count: int) -> None:
        for _ in range(count):
            run.step()
            if run.due("logs"):
                run.log()

    return steps


def bare(update: Update | Graph) -> Steps:
    """Both players' passes and optimiser steps, on the same images and latents every time."""
    if isinstance(update, Graph):
        return replay(update)
    if isinstance(update, TwoPlayer):
        turns = update.draw(0)

        def steps(count: int) -> None:
            for _ in range(count):
                update.play(turns)

        return steps
    assert isinstance(update, MDGAN)

    def iterations(count: int) -> None:
        with held(update):
            for i in range(count):
                update.step(i * update.images_per_step)

    return iterations


def replay(graph: Graph) -> Steps:
    """The recorded step again and again."""

    def steps(count: int) -> None:
        while graph.graph is None:
            graph.step(0)
        for _ in range(count):
            graph.graph.replay()

    return steps


@contextmanager
def held(update: MDGAN) -> Iterator[None]:
    """In this block an MD-GAN draws the same latents and images at every step, and swaps never."""
    z, batch = update.latents(0), update.experiment.batch
    assert isinstance(update.team, LocalTeam)
    with ExitStack() as stack:

        def fix(owner: object, name: str, value: object) -> None:
            stack.enter_context(mock.patch.object(owner, name, value))

        fix(update, "latents", lambda *_: z)
        fix(update, "swap_interval", 2**62)
        for worker in update.team.workers.values():
            real, rng = worker.shard.at(0, batch), worker.rng(0, 0)
            fix(worker, "shard", SimpleNamespace(at=lambda *_, real=real: real))
            fix(worker, "rng", lambda *_, rng=rng: rng)
        yield


def operations(workload: Workload, device: torch.device) -> int:
    """Floating-point operations of one step: matrix products and convolutions, a multiply-add counted as two."""
    steps = bare(workload.update(device))
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


def product(device: torch.device, precision: Precision) -> Steps:
    """The machine's own large matrix product, SIDE x SIDE, in a precision."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(SIDE, SIDE, device=device, dtype=dtype) for _ in range(2))

    def steps(count: int) -> None:
        for _ in range(count):
            torch.mm(a, b)

    return steps
