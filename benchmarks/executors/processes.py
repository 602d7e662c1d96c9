"""Jobs on this machine: each in its own process on the CPU, or as threads of one process for each GPU.

Processes (`benchmarks.executors.worker`) are forked from a server process that has imported torch once, so one
starts in a fraction of a second. It ends with its pipe to the runner: if the runner dies, its jobs stop at once,
to be resumed from their checkpoints.
"""

import multiprocessing
import pickle
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.executors.worker import serve
from benchmarks.job import Begun, Fault, Job, Lost, News, Progress
from gans.errors import brief

PARTING = 5.0  # seconds that a process has to end in after its only job
TAIL = 4000  # characters of a dead process's output that the logs of its jobs keep


@dataclass
class Worker:
    """A process, or the place for one.

    Attributes:
        visible: its GPU as `CUDA_VISIBLE_DEVICES` names it; None: it computes on the CPU.
        width: jobs at a time.
        output: file for what the process prints apart from its jobs.
        jobs: that run there, by number.
        alone: whether the job there must be the only one.
        reason: that the process gave for its end.
    """

    visible: str | None
    width: int
    output: Path
    jobs: dict[int, Job] = field(default_factory=dict)
    alone: bool = False
    process: Any = None
    pipe: Any = None
    reason: str = ""

    def free(self, alone: bool) -> int:
        if self.alone or (alone and self.jobs):
            return 0
        return self.width - len(self.jobs)

    def submit(self, number: int, job: Job, alone: bool) -> None:
        """Start a job; OSError or EOFError if there is no process, and none can be started."""
        if self.process is None:
            self.start()
        self.jobs[number], self.alone = job, alone
        with suppress(OSError):  # its process has just died, which is seen next
            self.pipe.send((number, pickle.dumps(job)))

    def start(self) -> None:
        self.output.write_bytes(b"")
        self.reason = ""
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            arguments = (theirs, self.visible, self.width, self.output)
            process = multiprocessing.get_context("forkserver").Process(target=serve, args=arguments, daemon=True)
            process.start()
        self.process, self.pipe = process, ours

    def poll(self) -> Iterator[News]:
        """What its process has sent; a job that it sent the end of is there no more."""
        code = self.process.exitcode  # first: what it has sent by then is all
        for sent in received(self.pipe):
            match sent:
                case str():
                    self.reason = sent
                case (number, Begun() | Progress() as news):
                    yield number, news
                case (number, end):
                    del self.jobs[number]
                    self.alone = False
                    yield number, end
        if code is not None:
            yield from self.lose(self.reason or death(code))
        elif not self.jobs and self.width == 1 and self.visible is None:
            self.process.join(PARTING)  # it ends with its job; killed, it would leave semaphores
            self.end()

    def lose(self, reason: str) -> Iterator[News]:
        """The process has died: its only job did it, or one of them."""
        left = self.end()
        for number, job in left.items():
            write_down(job, reason, self.output)
            yield number, Lost(reason, Fault.OWN if len(left) == 1 else Fault.SHARED)

    def kill(self, late: int) -> Iterator[News]:
        """End the process because of one of its jobs."""
        yield from self.poll()
        if late in self.jobs:
            for number in self.end():
                yield number, Lost("a job in its process was late", Fault.NONE)

    def end(self) -> dict[int, Job]:
        """End the process if there is one; what it left unfinished."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process = None
        left, self.jobs, self.alone = self.jobs, {}, False
        return left


class Pool:
    """Runs jobs in processes, `width` at a time in each.

    There is one for each of `gpus`, by its name in `CUDA_VISIBLE_DEVICES` (`gans.compute.devices.visible`); that
    of None computes on the CPU.
    """

    def __init__(self, gpus: Sequence[str | None], width: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="processes-")
        self.workers = [Worker(gpu, width, Path(self.folder.name) / f"{n}.txt") for n, gpu in enumerate(gpus)]
        self.news: list[News] = []

    def room(self, alone: bool = False) -> bool:
        return any(worker.free(alone) for worker in self.workers)

    def submit(self, number: int, job: Job, alone: bool = False) -> None:
        worker = max(self.workers, key=lambda worker: worker.free(alone))
        try:
            worker.submit(number, job, alone)
        except (EOFError, OSError) as error:  # if the fork server was killed, it is started again
            self.news.append((number, Lost(f"its process did not start: {brief(error)}", Fault.OWN)))

    def cancel(self, number: int) -> None:
        for worker in self.workers:
            if number in worker.jobs:  # else it has just been killed for another job that is late
                self.news.extend(worker.kill(number))

    def poll(self, seconds: float) -> Iterator[News]:
        working = [worker for worker in self.workers if worker.process]
        wait([end for w in working for end in (w.pipe, w.process.sentinel)], timeout=seconds)
        news, self.news = self.news, []
        yield from news
        for worker in working:
            yield from worker.poll()

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.folder.cleanup()


def received(pipe: Connection) -> Iterator[Any]:
    """What was sent through a pipe so far."""
    with suppress(EOFError, OSError):  # the latter: its process was killed in the middle of a message
        while pipe.poll():
            yield pipe.recv()


def write_down(job: Job, reason: str, output: Path) -> None:
    """Keep in a job's log how its process died, and the last that it printed."""
    tail = output.read_text(errors="replace")[-TAIL:]
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        log.write(f"the process died: {reason}\n{tail}")


def death(code: int) -> str:
    """The meaning of an exit without a result."""
    if code >= 0:
        return f"the worker exited with code {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def preload(*modules: str) -> None:
    """Start the fork server now; it imports what every worker needs, while the runner continues."""
    if sys.platform == "darwin":
        return  # Apple's libraries do not survive a fork: there, each worker imports for itself
    # an optimiser imports torch._dynamo, which takes each process that makes one a second or two
    multiprocessing.set_forkserver_preload([*modules, "torch._dynamo"])
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server inherits that: Ctrl-C is the runner's
    forkserver.ensure_running()
    signal.signal(signal.SIGINT, handler)
