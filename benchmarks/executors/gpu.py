"""Jobs on the GPUs of this machine: a process for each GPU, in which some jobs at a time are threads.

The process is `benchmarks.executors.gpu_worker`; it ends when its pipe does, so nothing outlives the runner. A job
that is cancelled ends when it next reports something; one that does not costs its process.
"""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from benchmarks.executors.gpu_worker import Cancel, Dying, Ready, Work, serve
from benchmarks.executors.processes import death, received, start
from benchmarks.job import Begun, Fault, Job, Lost, News, Progress, Result
from gans import schema

GRACE = 60.0  # seconds in which a job that is cancelled has to report something: a long evaluation, say
TAIL = 4000  # characters of a dead process's output that the logs of its jobs keep


@dataclass
class Worker:
    """The process of a GPU.

    Args:
        visible: the GPU as `CUDA_VISIBLE_DEVICES` names it; None: the CPU in its place.
        output: file for what its process prints.

    Attributes:
        jobs: that run there, by number.
        alone: whether the job there is to have no neighbours.
        ready: whether its process takes orders.
        reason: that the process gave for its end.
    """

    visible: str | None
    output: Path
    jobs: dict[int, Job] = field(default_factory=dict)
    alone: bool = False
    ready: bool = False
    process: Any = None
    pipe: Any = None
    reason: str = ""

    def submit(self, number: int, job: Job, alone: bool) -> None:
        if self.process is None:
            self.start()
        self.jobs[number], self.alone = job, alone
        self.send(Work(number, pickle.dumps(job)))

    def start(self) -> None:
        self.output.write_bytes(b"")
        self.reason = ""
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = start(serve, theirs, self.visible, self.output)
        theirs.close()

    def send(self, order: Work | Cancel) -> None:
        with suppress(OSError):  # its process has just died, which is seen next
            self.pipe.send(order)

    def poll(self) -> Iterator[News]:
        """What its process has sent; a job that it sent the end of is there no more."""
        code = self.process.exitcode  # first: what it has sent by then is all
        for sent in received(self.pipe):
            match sent:
                case Ready():  # the time limits of its jobs begin now
                    self.ready = True
                    yield from ((number, Begun()) for number in self.jobs)
                case Dying(reason):
                    self.reason = reason
                case (number, Progress() as progress):
                    yield number, progress
                case (number, Result() | Lost() as end):
                    alone, self.alone = self.alone, False
                    del self.jobs[number]
                    # without memory although it had the GPU to itself
                    yield number, Result(schema.FAILED, end.reason) if alone and isinstance(end, Lost) else end
        if code is not None:
            yield from self.bury(self.reason or death(code))

    def bury(self, reason: str) -> Iterator[News]:
        """The process has died: its only job did it, or one of them."""
        left = self.end()
        for number, job in left.items():
            write_down(job, reason, self.output)
            yield number, Lost(reason, Fault.OWN if len(left) == 1 else Fault.SHARED)

    def kill_for(self, guilty: int) -> Iterator[News]:
        """End the process because of one of its jobs."""
        yield from self.poll()
        for number in self.end():
            own = number == guilty
            yield number, Lost("it hung", Fault.OWN) if own else Lost("another job hung", Fault.NONE)

    def end(self) -> dict[int, Job]:
        """End the process if there is one; what it left unfinished."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.pipe.close()
            self.process, self.ready = None, False
        left, self.jobs, self.alone = self.jobs, {}, False
        return left


class GpuPool:
    """Runs jobs on GPUs.

    Args:
        gpus: each as `CUDA_VISIBLE_DEVICES` names it (`gans.compute.devices.visible`); None: a process that
            computes on the CPU in its place.
        width: jobs at a time on each.
        grace: seconds that a job has to end in after it was cancelled.
    """

    deaths = 1

    def __init__(self, gpus: Sequence[str | None], width: int, grace: float = GRACE) -> None:
        self.width, self.grace = width, grace
        self.folder = tempfile.TemporaryDirectory(prefix="gpus-")
        outputs = (Path(self.folder.name) / f"{n}.txt" for n in range(len(gpus)))
        self.workers = [Worker(*each) for each in zip(gpus, outputs, strict=True)]
        self.news: list[News] = []

    def free(self, worker: Worker, alone: bool) -> int:
        """How many more jobs a worker takes."""
        if alone:
            return 0 if worker.jobs else 1
        return 0 if worker.alone else self.width - len(worker.jobs)

    def room(self, alone: bool = False) -> bool:
        return any(self.free(worker, alone) > 0 for worker in self.workers)

    def submit(self, number: int, job: Job, alone: bool = False) -> None:
        worker = max(self.workers, key=lambda worker: self.free(worker, alone))
        worker.submit(number, job, alone)
        if worker.ready:
            self.news.append((number, Begun()))

    def cancel(self, number: int, force: bool = False) -> None:
        worker = next(worker for worker in self.workers if number in worker.jobs)
        if force:
            self.news.extend(worker.kill_for(number))
        else:
            worker.send(Cancel(number))

    def poll(self, seconds: float) -> Iterator[News]:
        news, self.news = self.news, []
        yield from news
        working = [worker for worker in self.workers if worker.process]
        wait([end for w in working for end in (w.pipe, w.process.sentinel)], timeout=seconds)
        for worker in working:
            yield from worker.poll()

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self.folder.cleanup()


def write_down(job: Job, reason: str, output: Path) -> None:
    """Keep in a job's log how its process died, and the last that it printed."""
    tail = output.read_text(errors="replace")[-TAIL:]
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a") as log:
        log.write(f"the process of this GPU died: {reason}\n{tail}")
