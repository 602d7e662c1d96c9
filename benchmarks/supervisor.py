"""Runs jobs on an executor, with time limits, retries, Ctrl-C and waiting for other processes.

For every executor:

- *time limit*: a job that is over it is killed.
- *crash*: a job whose own process dies starts again from its checkpoint; at the third death it has failed. When a
  shared process dies, its jobs resume alone until one dies again; then the others resume together.
- *memory*: a job that runs out of memory among others resumes alone, and fails if that is not enough.
- *a lost node, or a process killed because of another job*: does not count against its jobs.
- *a job that another process runs*: waits until its folder's lock is free, then does the remaining work here.
- *Ctrl-C*: all jobs are killed; the reader of the events ends their runs.
"""

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from benchmarks.job import Begun, Event, Executor, Fault, Job, Lost, News, Progress, Restarted, Result, Waiting
from gans import schema
from gans.runs.locks import held, holder_of

DEATHS = 3  # of a job's own process, after which it has failed
TICK = 0.5  # seconds that an executor may wait for news


@dataclass(eq=False)
class Attempt:
    """The record of a job.

    Attributes:
        started: whether its start was reported.
        deaths: of its own process.
        alone: whether it runs without others: it ran out of memory, or may have killed a shared process.
        deadline: of this attempt, on the clock of `time.monotonic`.
        late: whether it was killed since it was over its time limit.
    """

    number: int
    job: Job
    started: bool = False
    deaths: int = 0
    alone: bool = False
    deadline: float = float("inf")
    late: bool = False


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

    def events(self) -> Generator[Event]:
        """What happens, until all jobs have ended; closing the iterator kills them."""
        try:
            while self.waiting or self.alone or self.running or self.blocked:
                self.submit()
                for news in self.executor.poll(TICK):
                    yield from self.take(news)
                self.enforce_limits()
                self.unblock()
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
            attempt.deadline = float("inf")
            self.running[attempt.number] = attempt
            self.executor.submit(attempt.number, attempt.job, attempt.alone)

    def take(self, news: News) -> Iterator[Event]:
        number, what = news
        if (attempt := self.running.get(number)) is None:
            return  # progress that a job sent before its end was seen
        match what:
            case Begun():
                attempt.deadline = time.monotonic() + attempt.job.seconds
                yield from self.start(attempt)
            case Progress():
                yield attempt.job, what
            case Result():
                del self.running[number]
                yield from self.end(attempt, what)
            case Lost():
                del self.running[number]
                yield from self.lose(attempt, what)

    def start(self, attempt: Attempt) -> Iterator[Event]:
        if not attempt.started:
            attempt.started = True
            yield attempt.job, Begun()

    def end(self, attempt: Attempt, result: Result) -> Iterator[Event]:
        yield from self.start(attempt)
        if result.status == schema.SKIPPED:
            self.blocked.append(attempt)
            yield attempt.job, Waiting(f"{holder_of(attempt.job.folder)} does it")
        else:
            yield attempt.job, result

    def lose(self, attempt: Attempt, lost: Lost) -> Iterator[Event]:
        """A job has lost its process: it starts again, or has failed."""
        if attempt.late:
            minutes = attempt.job.seconds / 60
            yield from self.end(attempt, Result(schema.TIMED_OUT, f"still running after {minutes:g} minutes"))
            return
        if lost.fault is Fault.OWN:
            attempt.deaths += 1
            self.join_others()
        if attempt.deaths >= DEATHS or (attempt.alone and lost.fault is Fault.SHARED):
            times = f", {attempt.deaths} times" if attempt.deaths > 1 else ""
            yield from self.end(attempt, Result(schema.FAILED, lost.reason + times))
            return
        attempt.alone |= lost.fault is Fault.SHARED
        (self.alone if attempt.alone else self.waiting).append(attempt)
        if attempt.started:
            begun = (attempt.job.folder / schema.CHECKPOINT).exists()
            yield attempt.job, Restarted(f"{lost.reason}; it {'resumes' if begun else 'starts again'}")

    def join_others(self) -> None:
        """The job that killed a shared process is found: the others resume together."""
        for attempt in self.alone:
            attempt.alone = False
        self.waiting.extendleft(reversed(self.alone))
        self.alone.clear()

    def enforce_limits(self) -> None:
        """Kill the jobs that are over their time limit."""
        for attempt in list(self.running.values()):
            if time.monotonic() > attempt.deadline:
                attempt.late, attempt.deadline = True, float("inf")
                self.executor.cancel(attempt.number)

    def unblock(self) -> None:
        """Take back the jobs whose folders are free."""
        for attempt in list(self.blocked):
            if not held(attempt.job.folder):
                self.blocked.remove(attempt)
                self.waiting.append(attempt)
