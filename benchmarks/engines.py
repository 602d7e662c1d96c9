"""The jobs of the engine for clusters, until that is an executor."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import engine as old
from benchmarks.cluster import RayEngine, share
from benchmarks.elsewhere import shared
from benchmarks.job import Ended, Event, Job, Progressed, Report, Restarted, Result, Started, Waiting
from benchmarks.options import Machine


@dataclass(frozen=True)
class Call:
    job: Job
    folder: Path

    def __call__(self, report: Report) -> old.Result:
        result = self.job.call(report, self.folder)
        return old.Result(result.status, result.reason)


def ray_events(machine: Machine, jobs: list[Job], side: int, spread: int) -> Generator[Event]:
    """Run jobs on a cluster."""
    ray = RayEngine(machine.cluster, share(machine, len(jobs), side, spread))
    known = {
        old.Job(job.name, Call(job, job.folder), job.images, job.log, job.seconds, job.counts, job.folder): job
        for job in jobs
    }
    for event in shared(ray, list(known)):
        job = known[event.job]
        match event:
            case old.Started():
                yield Started(job)
            case old.Progressed(_, images, values):
                yield Progressed(job, images, values)
            case old.Waiting(_, who, images):
                yield Waiting(job, who, images)
            case old.Moved(_, why, anew):
                yield Restarted(job, why, anew)
            case old.Ended(_, result):
                yield Ended(job, Result(result.status, result.reason))
