"""Jobs that other processes do: they are waited for, and done here if they are not done then."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing

from benchmarks.engine import Ended, Engine, Event, Job, Result, Started, Waiting
from gans import schema
from gans.runs.locks import LOCK, held, holder_of

PATIENCE = 1.0  # seconds between looks


def shared(engine: Engine, jobs: list[Job]) -> Generator[Event]:
    """Run all jobs, those last that other processes do: each holds the folder of its log.

    Whoever is waited for may die, or do a part of a job only. So a job whose folder is free again is run here, and
    finds for itself what is left of it. One that is waited for longer than its time limit has timed out.
    """
    begun: set[Job] = set()
    deadlines: dict[Job, float] = {}
    waiting: list[Job] = []
    while jobs:
        with closing(engine.run(jobs)) as events:
            for event in events:
                if isinstance(event, Ended) and event.result.status == schema.SKIPPED:
                    waiting.append(event.job)
                    deadlines.setdefault(event.job, time.monotonic() + event.job.seconds)
                    yield told(event.job)
                elif not (isinstance(event, Started) and event.job in begun):
                    yield event
                begun.add(event.job)
        jobs = []
        while waiting and not jobs:
            jobs = [job for job in waiting if not held(job.log.parent / LOCK)]
            waiting = [job for job in waiting if job not in jobs]
            if not jobs:
                yield from late(waiting, deadlines)
                yield from map(told, waiting)
                time.sleep(PATIENCE)


def late(waiting: list[Job], deadlines: dict[Job, float]) -> Generator[Ended]:
    """Give up the jobs that were waited for too long."""
    now = time.monotonic()
    for job in [job for job in waiting if now > deadlines[job]]:
        waiting.remove(job)
        yield Ended(
            job, Result(schema.TIMED_OUT, f"{told(job).who} still does it after {job.seconds / 60:g} minutes")
        )


def told(job: Job) -> Waiting:
    """Who does the job, and how far that is."""
    holder = holder_of(job.log.parent)
    return Waiting(job, str(holder or "another process"), holder.images if holder else 0)
