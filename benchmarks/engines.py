"""Which engine runs cells and trials."""

from __future__ import annotations

from benchmarks.cards import CardsEngine
from benchmarks.cluster import RayEngine, share
from benchmarks.engine import Engine, LocalEngine
from benchmarks.options import Machine
from gans.compute import devices


def engine(machine: Machine, jobs: int, side: int, spread: int = 0) -> Engine:
    """What runs cells or trials: a cluster, or a machine's cards, if it has any, else a process for each of them.

    Args:
        machine: as it was asked for.
        jobs: how many there are.
        side: of their largest images, in pixels.
        spread: processes that the workers of one are, at most: such jobs fill a machine one by one.
    """
    if machine.cluster:
        return RayEngine(machine.cluster, share(machine, jobs, side, spread))
    if not machine.cards:
        return LocalEngine(1 if spread and machine.jobs is None else machine.parallel(jobs, side))
    names = [devices.only(card) for card in machine.cards]
    return CardsEngine(names[:1], 1) if spread else CardsEngine(names, machine.width(side))
