"""What runs on a node of a cluster for the runner: a host, whose jobs have processes of their own; and questions.

A host does on its node what the local engine does on this machine, by the same functions; the runner talks to it
through Ray (`benchmarks.cluster`). Whatever ends it takes its jobs along, since they live as long as their pipes:
the runner's end, the node's, or a kill.

Ray imports this module on every node, so nothing heavy is imported here.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from benchmarks.away import Guests
from benchmarks.cards import GRACE, Attempt, Card, Dealer
from benchmarks.engine import (
    Ended,
    Job,
    LocalEngine,
    Progressed,
    Result,
    Running,
    Started,
    Tell,
    news,
    preload,
    stop,
)
from gans import schema
from gans.compute.cluster import CHECKED, ENVIRONMENT, environment
from gans.errors import InputError, system
from gans.runs import databases
from gans.runs.locks import HOST, Holder, alive, lodge

# of the runner's environment, what says where things are and with which credentials they are had
PASSED_ON = ("GANS_", "MLFLOW_", "PG", "AWS_", "OMP_NUM_THREADS")
SENT = "GANS_SENT"  # names the folder of data sets that a node was sent (`gans.data.sent`, which takes torch)
TRIES = 3  # to reach a store: drivers take seconds to import on a busy node, which are not the store's
ROOT = Path(__file__).parent.parent
ROOMS = ("gans", "benchmarks", "sweeps", "reports")
# whose versions move numbers, or have to be the same for what is sent
PACKAGES = ("torch", "torchvision", "torch-fidelity", "numpy", "scipy", "mlflow", "optuna")


@dataclass(frozen=True)
class Home:
    """What a host takes over from the runner.

    Attributes:
        address: of the cluster, which the workers of its jobs join.
        folder: in which the runner works, taken if the node has it: paths are the same then.
        variables: of its environment; those that the node has itself win.
        modules: that every job needs.
    """

    address: str
    folder: str
    variables: Mapping[str, str]
    modules: tuple[str, ...]

    @classmethod
    def here(cls, address: str, modules: tuple[str, ...]) -> Home:
        """The runner's own."""
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        return cls(address, str(Path.cwd()), variables, modules)

    def settle(self) -> None:
        """Make its folder and its variables this process's."""
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        os.environ.pop("OMP_NUM_THREADS", None)  # Ray's, by what an actor books; threads are a job's own
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)

    def move_in(self) -> None:
        """Make it a host's, and its jobs'."""
        self.settle()
        os.environ |= {"RAY_ADDRESS": self.address, CHECKED: "1", ENVIRONMENT: json.dumps(environment())}
        # multiprocessing would run the program again in each process: Ray's, which imports Ray
        vars(sys.modules["__main__"]).pop("__file__", None)


@dataclass(frozen=True)
class Packed:
    """A job's call on its way, unpacked by the process that does it: a host needs none of what it imports."""

    call: bytes

    def __call__(self, tell: Tell) -> Result:
        return cast(Result, pickle.loads(self.call)(tell))


@dataclass(frozen=True)
class Work:
    """An order: do this job."""

    number: int
    job: Job


@dataclass(frozen=True)
class Stop:
    """An order: end all jobs at once."""


@dataclass(frozen=True)
class Ready:
    """News: the host takes orders."""


@dataclass(frozen=True)
class Begun:
    """News of a job: it has a process."""

    number: int


@dataclass(frozen=True)
class Told:
    """News of a job: its progress."""

    number: int
    images: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Over:
    """News of a job: its result; `died` as `Ended` has it, `parcel` as `Brought`."""

    number: int
    result: Result
    died: bool = False
    parcel: bytes = b""


@dataclass(frozen=True)
class Brought:
    """News of a job that is done away from the runner's folder: files of it (`benchmarks.away`)."""

    number: int
    parcel: bytes


News = Ready | Begun | Told | Brought | Over


class Host:
    """A Ray actor that runs jobs on its node, as many as it is given at once.

    One of its threads tells (`news`), another takes orders.

    Args:
        home: taken over from the runner.
        abreast: jobs at a time in one process on the GPU that Ray has given to the actor; None: processes on CPUs.
        away: whether the node lacks the runner's folder of runs.
    """

    def __init__(self, home: Home, abreast: int | None = None, away: bool = False) -> None:
        home.move_in()
        self.guests = Guests(lodge("gans-away-")) if away else None
        if home.modules:
            preload(*home.modules)
        self.abreast = abreast
        self.orders: Connection
        self.orders, self.desk = Pipe(duplex=False)

    def order(self, what: Work | Stop) -> None:
        """Let a job begin, or end them all."""
        if self.guests and isinstance(what, Work):
            what = Work(what.number, self.guests.settle(what.number, what.job))
        self.desk.send(what)

    def news(self) -> Iterator[News]:
        """What becomes of the jobs, for as long as the host lives."""
        yield Ready()
        jobs = Jobs() if self.abreast is None else CardJobs(os.environ.get("CUDA_VISIBLE_DEVICES"), self.abreast)
        while True:
            for told in jobs.look(self.orders):
                yield self.with_files(told)
            if self.guests:
                yield from (Brought(number, parcel) for number, parcel in self.guests.parcels())

    def with_files(self, told: News) -> News:
        """News of a job that is over, with the last of its files if they have to travel."""
        if not (self.guests and isinstance(told, Over)):
            return told
        try:
            return replace(told, parcel=self.guests.leave(told.number))
        except OSError as error:
            why = f"its files cannot be brought: {system(error)}"
            return told if told.died else Over(told.number, Result(schema.FAILED, why))


class Jobs:
    """The jobs that a host runs, each in a process of its own."""

    def __init__(self) -> None:
        self.engine = LocalEngine(0)
        self.workers: list[Running] = []
        self.numbers: dict[Job, int] = {}

    def look(self, orders: Connection) -> Iterator[News]:
        """Take orders, then see what there is to tell."""
        while orders.poll():
            match orders.recv():
                case Work(number, job):
                    self.numbers[job] = number
                    self.workers.append(self.engine.start(job))
                    yield Begun(number)
                case Stop():
                    stop(self.workers)
                    stopped, self.workers = self.workers, []
                    for worker in stopped:
                        yield Over(self.numbers.pop(worker.job), Result(schema.INTERRUPTED))
        for event in news(self.workers, orders):
            match event:
                case Progressed(job, images, values):
                    yield Told(self.numbers[job], images, values)
                case Ended(job, result, died):
                    yield Over(self.numbers.pop(job), result, died)


class CardJobs:
    """The jobs that a host runs on a GPU: threads of one process, dealt out as locally (`benchmarks.cards`).

    Args:
        visible: the GPU as `CUDA_VISIBLE_DEVICES` names it; None: the CPU in its place.
        abreast: jobs at a time.
    """

    def __init__(self, visible: str | None, abreast: int) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="card-")
        self.card = Card(visible, Path(self.folder.name) / "said.txt")
        self.dealer = Dealer([self.card], abreast, GRACE, deque())
        self.numbers: dict[Job, int] = {}

    def look(self, orders: Connection) -> Iterator[News]:
        """Take orders, then see what there is to tell; who has killed its process is found out here."""
        while orders.poll():
            match orders.recv():
                case Work(number, job):
                    self.numbers[job] = number
                    self.dealer.waiting.append(Attempt(number, job))
                case Stop():
                    self.card.end()
                    self.dealer.waiting.clear()
                    self.dealer.apart.clear()
                    for number in self.numbers.values():
                        yield Over(number, Result(schema.INTERRUPTED))
                    self.numbers.clear()
        for event in self.dealer.round(orders):
            match event:
                case Started(job):
                    yield Begun(self.numbers[job])
                case Progressed(job, images, values):
                    yield Told(self.numbers[job], images, values)
                case Ended(job, result):
                    yield Over(self.numbers.pop(job), result)


# --- questions


@dataclass(frozen=True)
class Build:
    """What a node runs: nodes whose builds differ would not compute the same, or not understand each other.

    Attributes:
        code: of this suite: version, and commit if it lies in a git repository; for people.
        files: hash of its files.
        lock: hash of `requirements.lock`; empty where it was not installed from a clone.
        python, packages: versions.
    """

    code: str
    files: str
    lock: str
    python: str
    packages: str

    @classmethod
    def here(cls) -> Build:
        """This process's."""
        files = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
        code = hashlib.sha256()
        for path in files:
            code.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
        commit = _commit()
        told = f"{_version('gans')}{f' at commit {commit}' if commit else ''}"
        lock = ROOT / "requirements.lock"
        locked = hashlib.sha256(lock.read_bytes()).hexdigest()[:8] if lock.is_file() else ""
        return cls(
            told,
            code.hexdigest()[:8],
            locked,
            platform.python_version(),
            ", ".join(f"{p} {_version(p)}" for p in PACKAGES),
        )

    def difference(self, other: Build) -> tuple[str, str, str] | None:
        """The first part that differs, as each has it; None if there is none."""
        names = {"files": "the suite", "lock": "requirements.lock", "python": "Python", "packages": "packages"}
        mine, theirs = asdict(self), asdict(other)
        part = next((part for part in names if mine[part] != theirs[part]), None)
        return (names[part], self.told(part), other.told(part)) if part else None

    def told(self, part: str) -> str:
        """A part, for people."""
        return f"{self.code} (files {self.files})" if part == "files" else str(asdict(self)[part])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    try:
        asked = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


@dataclass(frozen=True)
class About:
    """What a node says of itself.

    Attributes:
        build: that it runs.
        shares: whether it sees the runner's file.
        unreachable: why it cannot use a tracking store; empty if it can.
    """

    build: Build
    shares: bool
    unreachable: str


def sees(home: Home, path: str) -> bool:
    """Whether a file of the runner is here under the same path."""
    home.settle()
    return Path(path).exists()


def about(home: Home, token: str, uri: str) -> About:
    """What the runner wants to know before anything runs.

    Args:
        home: that hosts will take over.
        token: a file that lies where the runs will, from that folder.
        uri: of the tracking store.
    """
    home.settle()
    return About(Build.here(), Path(token).exists(), unreachable(uri))


def unreachable(uri: str) -> str:
    """Why a tracking store cannot be used from here; empty if it can."""
    why = ""
    for _ in range(TRIES):
        try:
            databases.check_tracking(uri)
            return ""
        except databases.Away as error:
            why = str(error)
        except InputError as error:
            return str(error)
    return why


@dataclass(frozen=True)
class Wanted:
    """A data set as cells ask for it."""

    name: str
    resolution: int | None


def data_of(home: Home, wanted: Wanted) -> str | None:
    """The hash of a data set of this node's own; None if it has none of that name."""
    from gans.data import datasets

    home.settle()
    try:
        return datasets.load(wanted.name, resolution=wanted.resolution).hash
    except InputError:
        return None


def give_data(home: Home, wanted: Wanted) -> bytes | None:
    """A data set of this node's own, packed for those who lack it; None if it has none of that name."""
    from gans.data import datasets, sent

    home.settle()
    try:
        return sent.pack(datasets.load(wanted.name, resolution=wanted.resolution))
    except InputError:
        return None


def take_data(home: Home, wanted: Wanted, packed: bytes) -> None:
    """Keep a data set for this node's jobs."""
    from gans.data import sent

    home.settle()
    sent.keep(wanted.name, wanted.resolution, packed)


def drop_data(home: Home) -> None:
    """Remove what this node was sent."""
    shutil.rmtree(home.variables[SENT], ignore_errors=True)


def living(holder: Holder) -> bool:
    """Whether a process of this machine may still be at work; of another machine nobody here knows."""
    if holder.host != HOST:
        return True
    return holder.living if holder.lock else alive(holder.pid, holder.born)
