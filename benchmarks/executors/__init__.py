"""What runs jobs: processes of this machine, threads of a process for each GPU, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator

from benchmarks.engines import ray_events
from benchmarks.executors.gpu import GpuPool
from benchmarks.executors.processes import Processes
from benchmarks.job import Event, Executor, Job
from benchmarks.options import Machine
from benchmarks.supervisor import Supervisor
from gans.compute import devices


def run(machine: Machine, jobs: list[Job], side: int, spread: int = 0) -> Generator[Event]:
    """Run jobs on a cluster, on a machine's GPUs if it has any, or else in processes on its CPUs.

    Args:
        machine: the options.
        jobs: all of them.
        side: of their largest images, in pixels.
        spread: processes that the workers of one are, at most: such jobs fill a machine one by one.
    """
    if machine.cluster:
        return ray_events(machine, jobs, side, spread)
    return Supervisor(executor(machine, len(jobs), side, spread), jobs).events()


def executor(machine: Machine, jobs: int, side: int, spread: int) -> Executor:
    """What runs so many jobs."""
    if not machine.cards:
        return Processes(1 if spread and machine.jobs is None else machine.parallel(jobs, side))
    names = [devices.only(card) for card in machine.cards]
    return GpuPool(names[:1], 1) if spread else GpuPool(names, machine.width(side))
