"""Jobs, the events that executors report, and those that the supervisor reports."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from gans import schema
from gans.errors import InputError, brief
from gans.runs.locks import InUse

Report = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Begun:
    """Its time limit runs from now on."""


@dataclass(frozen=True)
class Progress:
    images: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """How a job ended: a status of the protocol, and the reason if it is not `finished`."""

    status: str
    reason: str = ""


class Fault(Enum):
    """The reason why a job lost its process."""

    OWN = "its own process died"
    SHARED = "a process that it shared died, or memory ran out among others"
    NONE = "its node died, or its process was killed because of another job"


@dataclass(frozen=True)
class Lost:
    """The job lost its process and has no result."""

    reason: str
    fault: Fault


@dataclass(frozen=True)
class Waiting:
    """Another process runs the job."""

    why: str


@dataclass(frozen=True)
class Restarted:
    """The job starts again after the loss of its process; `why` is shown and kept as a tag of its run."""

    why: str


@dataclass(frozen=True, eq=False)
class Job:
    """A piece of work.

    Attributes:
        call: a picklable function that does the work in a folder and reports its progress.
        folder: of its checkpoint, lock and log; an executor may give the call another one with the same files.
        images: total for the progress display; 0: no progress.
        seconds: time limit.
        counts: whether the display counts it as a cell; noise floors do not count.
        resumes: whether it resumes from its folder.
    """

    name: str
    call: Callable[[Report, Path], Result]
    folder: Path
    images: int
    seconds: float
    counts: bool = True
    resumes: bool = True

    @property
    def log(self) -> Path:
        return self.folder / schema.LOG

    def run(self, report: Report, folder: Path | None = None, shares: bool = True) -> Result | Lost:
        """Do the work; an exception becomes a result, since the job has recorded its own traceback.

        A job that `shares` its process or GPU is lost when memory runs out, and may be tried without others.
        """
        try:
            return self.call(report, folder or self.folder)
        except InUse as error:
            return Result(schema.SKIPPED, str(error))
        except InputError as error:
            return Result(schema.FAILED, str(error))
        except (Exception, SystemExit) as error:
            # the latter is torch's, which not every job imports
            if shares and (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):
                return Lost(brief(error), Fault.SHARED)
            return Result(schema.FAILED, brief(error))


News = tuple[int, Begun | Progress | Result | Lost]  # what an executor reports of a job, by its number
Event = tuple[Job, Begun | Progress | Waiting | Restarted | Result]


class Executor(Protocol):
    """Runs jobs somewhere; each one that was submitted ends with a `Result` or a `Lost`."""

    def room(self, alone: bool = False) -> bool:
        """Whether one more job may be submitted; `alone`: without other jobs in the same process."""

    def submit(self, number: int, job: Job, alone: bool = False) -> None:
        """Start a job."""

    def cancel(self, number: int) -> None:
        """Kill a job."""

    def poll(self, seconds: float) -> Iterator[News]:
        """Report events; wait at most `seconds` if there are none."""

    def close(self) -> None:
        """Kill all jobs."""
