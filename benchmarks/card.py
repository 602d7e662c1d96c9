"""The process that works on a card: its jobs are threads, each on a stream of its own.

What all jobs of a process share is set alike for all of them, or guarded where it stands:

- torch's random state: networks are built one after the other (`gans.seeds.forked`); all else has generators;
- float32 products on TF32 cores or not: blocks that differ take turns (`gans.compute.precision.Units`);
- CUDA graphs: recorded one at a time (`gans.compute.devices.RECORDING`), replayed at once;
- threads of torch and BLAS, glibc's memory: alike (`gans.compute.devices.prepare`), which also keeps cuDNN from
  choosing kernels by trial;
- data sets and reference features: the first job loads them, the others find them (`gans.data.datasets`,
  `gans.fidelity.reference`);
- matplotlib: draws in one thread at a time (`gans.pictures.figures`);
- MLflow: a client for each job, whose store is safe for threads; all of them track to one store;
- standard output: goes to the log of the job whose thread prints (`Logs`);
- signals: answered by the main thread, and only there;
- a torch.compile: one at a time, by torch's own lock;
- autograd: torch works off all jobs' backward passes in one thread for the card; recorded steps have none;
- peak memory: the process's, so each job is told that of all; joules are the card's in any case;
- memory that a job frees: stays with the stream, so streams are handed on from job to job.

What has one thread for itself, gradients on or off, autocast, the current device and stream, is no job's to guard.
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

from benchmarks.engine import Job, Result, death, failure, overdue, redirect
from gans import schema
from gans.errors import Stopped

LOST = 77  # exit code of a process whose device fails every call


@dataclass(frozen=True)
class Work:
    """An order: do this job (`Job`, pickled: one that cannot be read concerns no other)."""

    number: int
    job: bytes


@dataclass(frozen=True)
class Stop:
    """An order: end this job when it next tells something, it is out of time."""

    number: int


@dataclass(frozen=True)
class Told:
    """News of a job: its progress, or its result."""

    number: int
    what: Result | tuple[int, Mapping[str, float]]


@dataclass(frozen=True)
class Crowded:
    """News of a job: it found no memory where others work too. It has ended; alone it may do better."""

    number: int
    result: Result


@dataclass(frozen=True)
class Ready:
    """News of the process: it takes orders."""


@dataclass(frozen=True)
class Dying:
    """News of the process: it ends now, because of this."""

    reason: str


class OutOfTime(Stopped):
    """A job that tells something after its time limit ends there."""

    status = schema.TIMED_OUT


def serve(pipe: Connection, visible: str | None, said: Path) -> None:
    """A card's process: do what the runner orders until it is gone.

    Args:
        pipe: to the runner.
        visible: the card, as `CUDA_VISIBLE_DEVICES` names it; None: none, the jobs compute on the CPU.
        said: file for what libraries print, and whatever else is no job's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
    redirect(said)
    logs = Logs(said.open("a", buffering=1))
    sys.stdout = sys.stderr = logs
    faulthandler.enable(logs.rest)  # where each thread was, should the process crash
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    Process(pipe, logs, NoCard() if visible is None else OnlyCard()).serve()


class NoCard:
    """What a process computes on that has no card: the CPU."""

    lost = False
    full: tuple[type[BaseException], ...] = (MemoryError,)  # what is raised when there is no memory left

    def stream(self) -> AbstractContextManager[None]:
        return nullcontext()


class OnlyCard:
    """The one card that the process sees."""

    def __init__(self) -> None:
        import torch  # the fork server has it already; where there is no card, nobody waits for it

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
    """What serves a card.

    Args:
        pipe: to the runner.
        logs: where jobs' threads print to.
        card: what they compute on.
    """

    def __init__(self, pipe: Connection, logs: Logs, card: NoCard | OnlyCard) -> None:
        self.pipe, self.logs, self.card = pipe, logs, card
        self.sending, self.reading = threading.Lock(), threading.Lock()
        self.stops: dict[int, threading.Event] = {}

    def serve(self) -> None:
        self.send(Ready())
        with suppress(EOFError, OSError):
            while True:
                match self.pipe.recv():
                    case Work(number, job):
                        stop = self.stops[number] = threading.Event()
                        threading.Thread(target=self.work, args=(number, job, stop), daemon=True).start()
                    case Stop(number) if number in self.stops:
                        self.stops[number].set()
        os._exit(1)  # the runner is gone

    def send(self, news: Ready | Told | Crowded | Dying) -> None:
        with self.sending, suppress(BrokenPipeError):  # `serve` sees that the runner is gone
            self.pipe.send(news)

    def work(self, number: int, pickled: bytes, stop: threading.Event) -> None:
        """A job's thread."""
        news: type[Told] | type[Crowded] = Told
        try:
            with self.reading:  # imports what the job needs, which threads had better not do at once
                job = pickle.loads(pickled)
            with self.logs.into(job.log), self.card.stream():
                result = self.do(number, job, stop)
        except SystemExit as leaving:  # would end a process, and a thread without a word
            result = Result(schema.FAILED, death(exit_code(leaving)))
        except BaseException as error:
            result = failure(error)
            news = Crowded if isinstance(error, self.card.full) else Told
        if result.status == schema.FAILED and self.card.lost:
            # so will be every other job's next call: nothing that they could say of themselves would be true
            self.send(Dying(result.reason))
            os._exit(LOST)
        del self.stops[number]
        self.send(news(number, result))

    def do(self, number: int, job: Job, stop: threading.Event) -> Result:
        """The job's call; one that was ended when it told something is overdue, whatever it makes of that."""
        late = False

        def tell(images: int, values: Mapping[str, float]) -> None:
            nonlocal late
            if stop.is_set():
                late = True
                raise OutOfTime(overdue(job).reason)
            self.send(Told(number, (images, dict(values))))

        try:
            result = job.call(tell)
        except Exception:
            if not late:
                raise
        return overdue(job) if late else result


def exit_code(leaving: SystemExit) -> int:
    """What a process that leaves like this tells its parent."""
    if leaving.code is None:
        return 0
    return leaving.code if isinstance(leaving.code, int) else 1
