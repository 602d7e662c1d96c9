"""The process that works on a GPU: its jobs are threads, each on a stream of its own.

What the jobs of a process share is the same for all of them, or guarded where it is:

- torch's random state: networks are built one after the other (`gans.seeds.forked`); all else has generators;
- float32 products on TF32 cores or not: blocks that differ take turns (`gans.compute.precision.Units`);
- CUDA graphs: recorded one at a time (`gans.compute.devices.RECORDING`), replayed at once;
- threads of torch and BLAS, glibc's memory: alike (`gans.compute.devices.prepare`), which also keeps cuDNN from
  choosing kernels by trial;
- data sets and reference features: the first job loads them, the others find them (`gans.data.datasets`,
  `gans.fidelity.reference`);
- matplotlib: draws in one thread at a time (`gans.pictures.figures`);
- standard output: goes to the log of the job whose thread prints (`Logs`);
- signals: answered by the main thread, and only there;
- a torch.compile: one at a time, by torch's own lock;
- autograd: torch works off all jobs' backward passes in one thread for the GPU; recorded steps have none;
- peak memory: the process's, so each job reports that of all; joules are the GPU's in any case;
- memory that a job frees: stays with the stream, so streams are handed on from job to job.

What has one thread for itself, gradients on or off, autocast, the current device and stream, no job has to guard.
Ray belongs to a whole process: jobs whose workers it holds run one at a time.
"""

from __future__ import annotations

import faulthandler
import io
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

from benchmarks.executors.processes import death, redirect
from benchmarks.job import Fault, Job, Lost, Progress, Result, failure
from gans import schema
from gans.errors import Stopped

LOST = 77  # exit code of a process whose device fails every call


@dataclass(frozen=True)
class Work:
    """An order: do this job (`Job`, pickled: one that cannot be read concerns no other)."""

    number: int
    job: bytes


@dataclass(frozen=True)
class Cancel:
    """An order: end this job when it next reports something, it is out of time."""

    number: int


@dataclass(frozen=True)
class Ready:
    """The process takes orders."""


@dataclass(frozen=True)
class Dying:
    """The process ends now, because of this."""

    reason: str


class OutOfTime(Stopped):
    """Raised in a job that reports something after it was cancelled."""

    status = schema.TIMED_OUT


def serve(pipe: Connection, visible: str | None, output: Path) -> None:
    """In the process of a GPU: do what the runner orders until that is gone.

    Args:
        pipe: to the runner.
        visible: the GPU, as `CUDA_VISIBLE_DEVICES` names it; None: none, the jobs compute on the CPU.
        output: file for what libraries print, and for all else that is not from the thread of a job.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner handles Ctrl-C
    redirect(output)
    logs = Logs(output.open("a", buffering=1))
    sys.stdout = sys.stderr = logs
    faulthandler.enable(logs.rest)  # where each thread was, should the process crash
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    Process(pipe, logs, NoGpu() if visible is None else OnlyGpu()).serve()


class NoGpu:
    """The CPU in the place of a GPU."""

    lost = False
    full: tuple[type[BaseException], ...] = (MemoryError,)  # what is raised when there is no memory left

    def stream(self) -> AbstractContextManager[None]:
        return nullcontext()


class OnlyGpu:
    """The one GPU that the process sees."""

    def __init__(self) -> None:
        import torch  # the fork server has it already; where there is no GPU, nobody waits for it

        from gans.compute import devices

        self.device, self.devices = torch.device("cuda", 0), devices
        self.full = (MemoryError, torch.OutOfMemoryError)
        self.streams = devices.Streams(self.device)
        # CUDA starts while the first jobs read their data
        threading.Thread(target=devices.lost, args=[self.device], daemon=True).start()

    @property
    def lost(self) -> bool:
        """Whether every call fails from now on."""
        return self.devices.lost(self.device)

    def stream(self) -> AbstractContextManager[None]:
        """A stream that no other job is on."""
        return self.streams.one()


class Logs(io.TextIOBase):
    """Standard output of a process whose threads have a log each; what other threads print goes to `rest`."""

    def __init__(self, rest: TextIO) -> None:
        self.rest = rest
        self.own = threading.local()

    @property
    def file(self) -> TextIO:
        return getattr(self.own, "file", self.rest)

    @contextmanager
    def into(self, path: Path) -> Iterator[None]:
        """What this thread prints goes to the end of a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", buffering=1) as self.own.file:
            try:
                yield
            finally:
                del self.own.file

    def write(self, text: str) -> int:
        return self.file.write(text)

    def flush(self) -> None:
        self.file.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.rest.fileno()


class Process:
    """What serves a GPU.

    Args:
        pipe: to the runner.
        logs: where jobs' threads print to.
        gpu: what they compute on.
    """

    def __init__(self, pipe: Connection, logs: Logs, gpu: NoGpu | OnlyGpu) -> None:
        self.pipe, self.logs, self.gpu = pipe, logs, gpu
        self.sending, self.reading = threading.Lock(), threading.Lock()
        self.cancelled: dict[int, threading.Event] = {}

    def serve(self) -> None:
        self.send(Ready())
        with suppress(EOFError, OSError):
            while True:
                match self.pipe.recv():
                    case Work(number, job):
                        cancelled = self.cancelled[number] = threading.Event()
                        threading.Thread(target=self.work, args=(number, job, cancelled), daemon=True).start()
                    case Cancel(number) if number in self.cancelled:
                        self.cancelled[number].set()
        os._exit(1)  # the runner is gone

    def send(self, news: Ready | Dying | tuple[int, Progress | Result | Lost]) -> None:
        with self.sending, suppress(BrokenPipeError):  # `serve` sees that the runner is gone
            self.pipe.send(news)

    def work(self, number: int, pickled: bytes, cancelled: threading.Event) -> None:
        """In the thread of a job."""
        end: Result | Lost
        try:
            with self.reading:  # imports what the job needs, which threads had better not do at once
                job: Job = pickle.loads(pickled)
            with self.logs.into(job.log), self.gpu.stream():
                end = self.call(number, job, cancelled)
        except SystemExit as leaving:  # would end a process, and a thread without a word
            end = Result(schema.FAILED, death(exit_code(leaving)))
        except BaseException as error:
            end = failure(error)
            if isinstance(error, self.gpu.full):
                end = Lost(end.reason, Fault.MEMORY)
        if (isinstance(end, Lost) or end.status == schema.FAILED) and self.gpu.lost:
            # so will be every other job's next call: nothing that they could say of themselves would be true
            self.send(Dying(end.reason))
            os._exit(LOST)
        del self.cancelled[number]
        self.send((number, end))

    def call(self, number: int, job: Job, cancelled: threading.Event) -> Result:
        """The job's call; one that was ended when it reported something is overdue, whatever it makes of that."""
        late = False

        def report(images: int, values: Mapping[str, float]) -> None:
            nonlocal late
            if cancelled.is_set():
                late = True
                raise OutOfTime(job.overdue.reason)
            self.send((number, Progress(images, dict(values))))

        try:
            result = job.call(report, job.folder)
        except Exception:
            if not late:
                raise
        return job.overdue if late else result


def exit_code(leaving: SystemExit) -> int:
    """What a process that leaves like this returns to its parent."""
    if leaving.code is None:
        return 0
    return leaving.code if isinstance(leaving.code, int) else 1
