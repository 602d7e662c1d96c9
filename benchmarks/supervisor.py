"""Runs jobs on an executor: the one place of time limits, retries, and of waiting for other processes.

What it does, whatever the executor is:

- *time limit*: a job that is over it is cancelled; one that has not ended within the executor's grace is killed.
- *crash*: a job whose own process dies starts again from its checkpoint, as often as the executor allows, then it
  has failed. When a process dies that jobs share, each goes on alone until one has died again, then the others go
  on together.
- *memory*: a job that finds none beside others goes on alone, and has failed only if that is not enough.
- *a node that goes, or a process that had to be killed for another job*: costs its jobs nothing.
- *a job that another process does*: is waited for until its folder's lock is free, then runs here and finds what
  is left of it. One that is waited for longer than its time limit has timed out.
- *Ctrl-C*: closing the iterator stops all jobs.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from benchmarks.job import (
    Begun,
    Ended,
    Event,
    Executor,
    Fault,
    Job,
    Lost,
    News,
    Progress,
    Progressed,
    Restarted,
    Result,
    Started,
    Waiting,
)
from gans import schema
from gans.runs.events import state_of
from gans.runs.locks import LOCK, held, holder_of
from gans.runs.run import PREFIX

TICK = 0.5  # seconds that an executor may wait for news
LOOK = 1.0  # seconds between looks at the locks of other processes


@dataclass(eq=False)
class Attempt:
    """The record of a job.

    Attributes:
        started: whether its start was reported.
        deaths: of its own process.
        alone: why it goes on without others: it found no memory, or may be why the process died that it shared.
        deadline: of this attempt, or of the wait for another process, on the clock of `time.monotonic`.
        cancelled: because it is over its time limit.
    """

    number: int
    job: Job
    started: bool = False
    deaths: int = 0
    alone: Fault | None = None
    deadline: float = float("inf")
    cancelled: bool = False


class Supervisor:
    """Runs all jobs in order, as many at a time as the executor has room for.

    Jobs are `waiting` for room, or for a process `alone`; `running`, by number; or `blocked` by other processes.
    """

    def __init__(self, executor: Executor, jobs: list[Job]) -> None:
        self.executor = executor
        self.waiting = deque(Attempt(number, job) for number, job in enumerate(jobs))
        self.alone: deque[Attempt] = deque()
        self.running: dict[int, Attempt] = {}
        self.blocked: list[Attempt] = []
        self.looked = time.monotonic()

    def events(self) -> Generator[Event]:
        """What happens, until all jobs have ended; closing the iterator stops them."""
        try:
            while self.waiting or self.alone or self.running or self.blocked:
                self.submit()
                for news in self.executor.poll(TICK):
                    yield from self.take(news)
                self.enforce_limits()
                yield from self.look()
        finally:
            self.executor.close()

    def submit(self) -> None:
        while True:
            if self.alone and self.executor.room(alone=True):
                attempt = self.alone.popleft()
            elif self.waiting and self.executor.room():
                attempt = self.waiting.popleft()
            else:
                return
            attempt.cancelled, attempt.deadline = False, float("inf")
            self.running[attempt.number] = attempt
            self.executor.submit(attempt.number, attempt.job, attempt.alone is not None)

    def take(self, news: News) -> Iterator[Event]:
        number, what = news
        if (attempt := self.running.get(number)) is None:
            return  # progress that a job sent before its end was seen
        match what:
            case Begun():
                attempt.deadline = time.monotonic() + attempt.job.seconds
                yield from self.start(attempt)
            case Progress(images, values):
                yield Progressed(attempt.job, images, values)
            case Result():
                del self.running[number]
                yield from self.end(attempt, what)
            case Lost():
                del self.running[number]
                yield from self.lose(attempt, what)

    def start(self, attempt: Attempt) -> Iterator[Event]:
        if not attempt.started:
            attempt.started = True
            yield Started(attempt.job)

    def end(self, attempt: Attempt, result: Result) -> Iterator[Event]:
        yield from self.start(attempt)
        if result.status == schema.SKIPPED:
            attempt.deadline = time.monotonic() + attempt.job.seconds
            self.blocked.append(attempt)
            yield waiting(attempt.job)
        elif attempt.cancelled and result.status != schema.FINISHED:
            yield Ended(attempt.job, attempt.job.overdue)
        else:
            yield Ended(attempt.job, result)

    def lose(self, attempt: Attempt, lost: Lost) -> Iterator[Event]:
        """A job has lost its process: it starts again, or has failed."""
        if attempt.cancelled:
            yield from self.end(attempt, attempt.job.overdue)
            return
        match lost.fault:
            case Fault.OWN:
                attempt.deaths += 1
                self.acquit()
                if attempt.deaths >= self.executor.deaths:
                    times = f", {attempt.deaths} times" if attempt.deaths > 1 else ""
                    yield from self.end(attempt, Result(schema.FAILED, lost.reason + times))
                    return
                self.waiting.appendleft(attempt)
            case Fault.SHARED | Fault.MEMORY:
                attempt.alone = lost.fault
                self.alone.append(attempt)
            case Fault.NONE:
                (self.alone if attempt.alone else self.waiting).appendleft(attempt)
        if attempt.started and lost.fault is not Fault.MEMORY:
            begun = (attempt.job.folder / schema.CHECKPOINT).exists()
            yield Restarted(attempt.job, f"{lost.reason}; it {'goes on' if begun else 'begins anew'}")

    def acquit(self) -> None:
        """The guilty job is found: those that shared its process go on together."""
        innocent = [attempt for attempt in self.alone if attempt.alone is Fault.SHARED]
        for attempt in innocent:
            attempt.alone = None
            self.alone.remove(attempt)
        self.waiting.extendleft(reversed(innocent))

    def enforce_limits(self) -> None:
        """Cancel the jobs that are over their time limit, and kill those that do not end then."""
        now = time.monotonic()
        for attempt in list(self.running.values()):
            if now > attempt.deadline:
                self.executor.cancel(attempt.number, force=attempt.cancelled)
                attempt.cancelled, attempt.deadline = True, now + self.executor.grace

    def look(self) -> Iterator[Event]:
        """Take back the jobs whose folders are free, and give up those that were waited for too long."""
        now = time.monotonic()
        if not self.blocked or now < self.looked + LOOK:
            return
        self.looked = now
        for attempt in list(self.blocked):
            if not held(attempt.job.folder / LOCK):
                self.blocked.remove(attempt)
                self.waiting.append(attempt)
            elif now > attempt.deadline:
                self.blocked.remove(attempt)
                why = f"{waiting(attempt.job).who} still does it after {attempt.job.seconds / 60:g} minutes"
                yield Ended(attempt.job, Result(schema.TIMED_OUT, why))
            else:
                yield waiting(attempt.job)


def waiting(job: Job) -> Waiting:
    """Who does the job, and how far the run in its folder is."""
    holder, state = holder_of(job.folder), state_of(job.folder)
    points = state.points if state else {}
    seen = [max(steps) for name, steps in points.items() if not name.startswith(PREFIX)]
    return Waiting(job, str(holder or "another process"), max(seen, default=0))
