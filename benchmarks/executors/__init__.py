"""Executors of jobs: processes of this machine, threads of a process for each GPU, or a Ray cluster."""

from collections.abc import Generator

from benchmarks.executors.processes import Pool
from benchmarks.executors.ray import RayExecutor
from benchmarks.job import Event, Executor, Job
from benchmarks.options import Machine
from benchmarks.supervisor import Supervisor
from gans.compute import devices


def run(machine: Machine, jobs: list[Job], side: int, spread: int = 0) -> Generator[Event]:
    """Run jobs on images of at most `side` pixels a side.

    Where `spread` processes are a job's workers, at most, jobs run one at a time.
    """
    return Supervisor(executor(machine, len(jobs), side, spread), jobs).events()


def executor(machine: Machine, jobs: int, side: int, spread: int) -> Executor:
    if machine.cluster:
        per_gpu = (1 if spread else machine.width(side)) if machine.gpus else 0
        return RayExecutor(machine.cluster, machine.threads(side), spread, per_gpu)
    if not machine.gpus:
        parallel = 1 if spread and machine.jobs is None else machine.parallel(jobs, side)
        return Pool([None] * parallel, 1)
    names = [devices.visible(gpu) for gpu in machine.gpus]
    return Pool(names[:1], 1) if spread else Pool(names, machine.width(side))
