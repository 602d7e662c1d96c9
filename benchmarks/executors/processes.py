"""Jobs on the CPUs of this machine, each in a process of its own.

Workers are forked from a server process that has imported torch once, so a job starts in a fraction of a second. A
worker lives only as long as its pipe to the runner: if the runner dies, however it dies, its workers stop at once
and can be resumed from their checkpoints.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from benchmarks.job import Begun, Fault, Job, Lost, News, Progress, Result, failure
from gans.errors import InputError, take_any_text

TRIES = 3  # to start a process


@dataclass
class Worker:
    """A process, the runner's end of its pipe, and the result that it has sent."""

    process: Any
    pipe: Connection
    result: Result | None = None


class Processes:
    """Runs jobs in processes, some at a time.

    Args:
        parallel: how many.
    """

    deaths = 1
    grace = 0.0

    def __init__(self, parallel: int) -> None:
        self.parallel = parallel
        self.workers: dict[int, Worker] = {}
        self.begun: list[int] = []

    def room(self, alone: bool = False) -> bool:
        return len(self.workers) < self.parallel

    def submit(self, number: int, job: Job, alone: bool = False) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = start(work, job, theirs)
        theirs.close()
        self.workers[number] = Worker(process, ours)
        self.begun.append(number)

    def cancel(self, number: int, force: bool = False) -> None:
        self.workers[number].process.kill()
        self.workers[number].process.join()

    def poll(self, seconds: float) -> Iterator[News]:
        begun, self.begun = self.begun, []
        yield from ((number, Begun()) for number in begun)
        wait([end for w in self.workers.values() for end in (w.pipe, w.process.sentinel)], timeout=seconds)
        for number, worker in list(self.workers.items()):
            code = worker.process.exitcode  # first: what it has sent by then is all
            for sent in received(worker.pipe):
                if isinstance(sent, Result):
                    worker.result = sent
                else:
                    yield number, Progress(*sent)
            if code is not None:
                del self.workers[number]
                worker.pipe.close()
                yield number, worker.result or Lost(death(code), Fault.OWN)

    def close(self) -> None:
        for worker in self.workers.values():
            worker.process.kill()
            worker.process.join()


def start(target: Callable[..., None], *arguments: object) -> Any:
    """A process; it is started again if somebody killed the fork server meanwhile, which comes anew then."""
    context = multiprocessing.get_context("forkserver")
    for _ in range(TRIES):
        process = context.Process(target=target, args=arguments, daemon=True)
        with suppress(EOFError, ConnectionError):
            process.start()
            return process
    raise InputError("the fork server of Python dies whenever it is started; see its messages above")


def received(pipe: Connection) -> Iterator[Any]:
    """What was sent through a pipe so far."""
    with suppress(EOFError, OSError):  # the latter: its process was killed in the middle of a message
        while pipe.poll():
            yield pipe.recv()


def work(job: Job, pipe: Connection) -> None:
    """In the worker: do the job, send progress and the result, say nothing on the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner handles Ctrl-C
    threading.Thread(target=die_with, args=(pipe,), daemon=True).start()
    try:
        redirect(job.log)
    except OSError as error:
        pipe.send(failure(error))
    else:
        pipe.send(job.run(lambda images, values: pipe.send((images, dict(values)))))


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
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("multiprocessing.forkserver" in part for part in child.cmdline()):
                child.kill()
