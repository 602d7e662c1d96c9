"""Who is timed: our trainer, its arithmetic alone, the tutorial's way."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.rounds import Steps
from benchmarks.speed.tutorial import Tutorial, seeded
from benchmarks.speed.workloads import Workload
from gans import fidelity
from gans.mdgan import MDGAN
from gans.train import Silent, Training
from gans.updates import TwoPlayer, Update
from gans.workers import LocalTeam


class NoScorer:
    """In place of a scorer: nothing is scored while speed is measured."""

    def __init__(self, *_: object) -> None: ...

    def at(self, _: int) -> NoScorer:
        return self


def ours(workload: Workload, device: torch.device, graph: bool = False) -> Steps:
    """The real trainer: statistics, average of weights, clocks, logs when due; no evaluation, no checkpoint."""
    with TemporaryDirectory() as folder, mock.patch.object(fidelity, "Scorer", NoScorer):
        run = Training(workload.experiment, workload.data, Path(folder), device, Silent(), graph)

    def steps(count: int) -> None:
        for _ in range(count):
            run.step()
            if run.due("logs"):
                run.log()

    return steps


def arithmetic(workload: Workload, device: torch.device) -> Steps:
    """Both players' passes and optimiser steps, on the same images and latents every time."""
    return bare(workload.update(device))


def bare(update: Update) -> Steps:
    if isinstance(update, TwoPlayer):
        turns = update.draw(0)

        def steps(count: int) -> None:
            for _ in range(count):
                update.play(turns)

        return steps
    assert isinstance(update, MDGAN)
    hold(update)

    def iterations(count: int) -> None:
        for i in range(count):
            update.step(i * update.images_per_step)

    return iterations


def hold(update: MDGAN) -> None:
    """Let an MD-GAN draw the same latents and images at every step, and swap never."""
    z, batch = update.latents(0), update.experiment.batch
    update.latents = lambda *_: z  # type: ignore[method-assign]
    update.swap_interval = 2**62
    assert isinstance(update.team, LocalTeam)
    for worker in update.team.workers.values():
        real, rng = worker.shard.at(0, batch), worker.rng(0, 0)
        worker.shard = mock.Mock(at=lambda *_, real=real: real)
        worker.rng = lambda *_, rng=rng: rng  # type: ignore[method-assign]


def tutorial(workload: Workload, device: torch.device) -> Steps:
    """The same networks, batch and losses as tutorials train them."""
    seeded()
    trainer = Tutorial(workload, device, Path(os.devnull).open("w"))  # noqa: SIM115

    def steps(count: int) -> None:
        for _ in range(count):
            trainer.step()

    return steps


def operations(workload: Workload, device: torch.device) -> int:
    """Floating-point operations of one step: matrix products and convolutions, a multiply-add counted as two."""
    steps = arithmetic(workload, device)
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


def product(device: torch.device, precision: str, side: int = 2048) -> tuple[Steps, int]:
    """The machine's own large matrix product in a precision, and its operations."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def steps(count: int) -> None:
        for _ in range(count):
            torch.mm(a, b)

    return steps, 2 * side**3
