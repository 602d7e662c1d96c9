"""Runs jobs, some at a time, each under a time limit: what an engine takes and tells, and the one for CPUs.

`LocalEngine` gives each job a process of its own; the engine for GPUs is in `benchmarks.cards`, the one for
clusters in `benchmarks.cluster`. Workers are forked from a server process that has imported torch and MLflow once,
so a job starts in a fraction of a second. A worker lives only as long as its pipe to the runner: if the runner
dies, however it dies, its workers stop at once and can be resumed from their checkpoints.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from benchmarks.job import Result
from gans import schema
from gans.errors import InputError, brief, take_any_text

Tell = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        name: for people.
        call: a picklable function that does the work, tells its progress and returns its result.
        images: what progress counts up to; 0 if it does not count.
        log: file for what the worker prints.
        seconds: time limit.
        counts: whether it is a cell to people, and not what cells are compared with.
        folder: what it has for itself, and goes on from; None: it works below the folder of its log.
    """

    name: str
    call: Callable[[Tell], Result]
    images: int
    log: Path
    seconds: float
    counts: bool = True
    folder: Path | None = None


@dataclass(frozen=True)
class Started:
    job: Job


@dataclass(frozen=True)
class Progressed:
    job: Job
    images: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Waiting:
    """Another process does the job.

    Attributes:
        who: does it.
        images: that it has seen.
    """

    job: Job
    who: str
    images: int = 0


@dataclass(frozen=True)
class Moved:
    """What did the job is gone, through no fault of its own or not certainly: it is done again, elsewhere.

    Attributes:
        anew: whether it has no checkpoint to go on from.
    """

    job: Job
    why: str
    anew: bool = False

    @property
    def record(self) -> str:
        """For its run."""
        return f"{self.why}; it began anew" if self.anew else self.why


@dataclass(frozen=True)
class Ended:
    """The job is over.

    Attributes:
        died: its process ended without a word.
    """

    job: Job
    result: Result
    died: bool = False


Event = Started | Progressed | Waiting | Moved | Ended


class Engine(Protocol):
    """Runs jobs somewhere."""

    def run(self, jobs: list[Job]) -> Generator[Event]:
        """Run all jobs, telling what happens; closing the iterator stops those that run."""


@dataclass
class Running:
    """A job that is under way, in a process of its own."""

    job: Job
    process: Any
    pipe: Connection
    deadline: float
    result: Result | None = None

    def receive(self) -> Iterator[Event]:
        """What the worker has sent since the last call."""
        with suppress(EOFError, ConnectionResetError):
            while self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Result):
                    self.result = message
                else:
                    yield Progressed(self.job, *message)

    def verdict(self) -> Result | None:
        """The result if the job is over: reported, died without a word, or out of time (then it is killed)."""
        if self.process.exitcode is not None:
            return self.result or Result(schema.FAILED, death(self.process.exitcode))
        if time.monotonic() > self.deadline:
            self.process.kill()
            self.process.join()
            return self.result or overdue(self.job)
        return None


def preload(*modules: str) -> None:
    """Let the fork server start now and import what every worker needs, while the runner goes on."""
    if sys.platform == "darwin":
        return  # Apple's libraries do not survive a fork: there, each worker imports for itself
    # an optimiser imports torch._dynamo, which takes each process that makes one a second or two
    multiprocessing.set_forkserver_preload([*modules, "torch._dynamo"])
    forkserver.ensure_running()
    atexit.register(end_server)


def end_server() -> None:
    """End the fork server with its runner: one that still imports would go on, half a minute on a busy machine."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class LocalEngine:
    """Runs jobs on this machine.

    Args:
        parallel: how many at a time.
    """

    def __init__(self, parallel: int) -> None:
        self.parallel = parallel
        self.context = multiprocessing.get_context("forkserver")

    def run(self, jobs: list[Job]) -> Generator[Event]:
        """Run all jobs in order, `parallel` at a time; closing the iterator stops the workers."""
        waiting, running = list(reversed(jobs)), list[Running]()
        try:
            while waiting or running:
                while waiting and len(running) < self.parallel:
                    running.append(self.start(waiting.pop()))
                    yield Started(running[-1].job)
                yield from news(running)
        finally:
            stop(running)

    def start(self, job: Job) -> Running:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=work, args=(job, theirs), name=job.name)
        process.start()
        theirs.close()
        return Running(job, process, ours, time.monotonic() + job.seconds)


def news(running: list[Running], *others: Connection) -> Iterator[Event]:
    """What workers tell; those whose jobs are over are no longer among them.

    Waited for half a second at most, or until there is something to be read from another pipe.
    """
    wait([*others, *(w.pipe for w in running), *(w.process.sentinel for w in running)], timeout=0.5)
    for worker in list(running):
        verdict = worker.verdict()
        yield from worker.receive()
        if verdict:
            running.remove(worker)
            worker.pipe.close()
            died = worker.result is None and verdict.status == schema.FAILED
            yield Ended(worker.job, worker.result or verdict, died)


def stop(running: list[Running]) -> None:
    """End workers at once."""
    for worker in running:
        worker.process.kill()
        worker.process.join()


def work(job: Job, pipe: Connection) -> None:
    """A worker's life: do the job, send progress and the result, say nothing on the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
    threading.Thread(target=die_with, args=(pipe,), daemon=True).start()
    try:
        redirect(job.log)
        result = job.call(lambda images, values: pipe.send((images, dict(values))))
    except Exception as error:
        result = failure(error)
    pipe.send(result)


def failure(error: BaseException) -> Result:
    """How a job ended that raises; it has recorded its traceback, and the runner goes on with the others."""
    return Result(schema.FAILED, str(error) if isinstance(error, InputError) else brief(error))


def overdue(job: Job) -> Result:
    """How a job ended that ran out of time."""
    return Result(schema.TIMED_OUT, f"still running after {job.seconds / 60:g} minutes")


def redirect(log: Path) -> None:
    """Let what this process prints go to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    take_any_text()


def die_with(pipe: Connection) -> None:
    """Exit when the runner's end of the pipe closes; the runner never sends anything."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(1)


def death(code: int) -> str:
    """What an exit without a result means."""
    if code >= 0:
        return f"the worker exited with code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
