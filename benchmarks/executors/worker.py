"""The process of a GPU or of a job on the CPU, which `benchmarks.executors.processes` starts.

On a GPU each job is a thread with its own stream. Shared state is the same for all jobs (threads of
torch and BLAS, glibc's memory, cuDNN's choices: `gans.compute.devices.prepare`) or guarded:

- torch's random state (`gans.seeds.forked`), TF32 or not (`gans.compute.precision.Units`), the recording of CUDA
  graphs (`gans.compute.devices.RECORDING`), matplotlib (`gans.pictures.figures`), torch.compile (by torch);
- data sets and reference features: the first job loads them (`gans.data.datasets`, `gans.fidelity.scorer`);
- standard output: goes to the log of the job whose thread prints (`Logs`);
- peak memory and joules are the process's or the GPU's; memory that a job frees stays with its stream.

Ray belongs to a whole process: jobs whose workers it holds run one at a time.
"""

import faulthandler
import io
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

from benchmarks.job import Begun, Job, Lost, News, Progress, Result
from gans import schema
from gans.errors import brief

LOST = 77  # exit code of a process whose device fails every call


def serve(pipe: Connection, visible: str | None, width: int, output: Path) -> None:
    """Execute the orders that the runner sends through a pipe until the runner ends.

    Args:
        pipe: to the runner.
        visible: the GPU, as `CUDA_VISIBLE_DEVICES` names it; None: jobs compute on the CPU.
        width: jobs at a time; with a single one on the CPU, which runs in the main thread, the process ends.
        output: file for what libraries print, and for all else that is not from the thread of a job.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner handles Ctrl-C
    rest = opened(output)
    for stream in (1, 2):
        os.dup2(rest.fileno(), stream)
    logs = Logs(rest)
    sys.stdout = sys.stderr = logs
    faulthandler.enable(rest)  # where each thread was, should the process crash
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    process = Process(pipe, logs, None if visible is None else Gpu(), width > 1)
    if visible is None and width == 1:
        order = pipe.recv()
        threading.Thread(target=process.listen, daemon=True).start()
        process.work(*order)
    else:
        process.listen()


class Gpu:
    """The one GPU that the process sees."""

    def __init__(self) -> None:
        import torch  # the fork server has imported it already

        from gans.compute import devices

        self.device, self.devices = torch.device("cuda", 0), devices
        self.streams = devices.Streams(self.device)
        # CUDA starts while the first jobs read their data
        threading.Thread(target=self.lost, daemon=True).start()

    def lost(self) -> bool:
        """Whether every call fails from now on."""
        return self.devices.lost(self.device)


def opened(log: Path) -> TextIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")


class Logs(io.TextIOBase):
    """Standard output of a process whose threads have a log each; what other threads print goes to `rest`."""

    def __init__(self, rest: TextIO) -> None:
        self.rest = rest
        self.own = threading.local()

    @contextmanager
    def into(self, log: Path) -> Iterator[None]:
        """What this thread prints goes to the end of a file."""
        with opened(log) as self.own.file:
            try:
                yield
            finally:
                del self.own.file

    def write(self, text: str) -> int:
        file: TextIO = getattr(self.own, "file", self.rest)
        return file.write(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.rest.fileno()


class Process:
    """Does jobs for the runner: an order is a job's number with the job (pickled)."""

    def __init__(self, pipe: Connection, logs: Logs, gpu: Gpu | None, shares: bool) -> None:
        self.pipe, self.logs, self.gpu, self.shares = pipe, logs, gpu, shares
        self.sending, self.reading = threading.Lock(), threading.Lock()

    def listen(self) -> None:
        """Take orders, and exit when the runner's end of the pipe closes."""
        with suppress(EOFError, OSError):
            while True:
                threading.Thread(target=self.work, args=self.pipe.recv(), daemon=True).start()
        os._exit(1)

    def send(self, news: News | str) -> None:
        with self.sending, suppress(BrokenPipeError):  # `listen` sees that the runner is gone
            self.pipe.send(news)

    def work(self, number: int, pickled: bytes) -> None:
        """Do a job, and send its end; a job that cannot be read concerns no other."""
        self.send((number, Begun()))
        end: Result | Lost
        try:
            with self.reading:  # imports what the job needs, which threads had better not do at once
                job: Job = pickle.loads(pickled)
            with self.logs.into(job.log), self.gpu.streams.one() if self.gpu else nullcontext():
                end = job.run(
                    lambda images, values: self.send((number, Progress(images, dict(values)))), shares=self.shares
                )
        except Exception as error:
            end = Result(schema.FAILED, brief(error))
        failed = isinstance(end, Lost) or end.status == schema.FAILED
        if failed and self.gpu and self.gpu.lost():
            # so will be every other job's next call: nothing that they could say of themselves would be true
            self.send(end.reason)
            os._exit(LOST)
        self.send((number, end))
