"""Folders of runs that travel: to nodes of a cluster that do not have the runner's, and back.

There, a job works in a folder of its own. What it writes is brought to the runner every few seconds, a file when
it has changed, so that a node that dies takes along no more than what came after; what there is of a cell goes
along when it goes on elsewhere.

Nodes import this module: nothing heavy is imported here.
"""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Protocol, Self, cast

from benchmarks.engine import Job, Result, Tell
from gans import files, schema
from gans.errors import InputError, system
from gans.runs import events, locks
from gans.runs.export import LOCK as EXPORT_LOCK

EVERY = 10.0  # seconds between parcels of a job
FIRST = 1.0  # likewise, until its run has begun: a run that the runner knows is not left open
# what is of its machine only: locks, and a second checkpoint that only a damaged disk asks for
STAYS = {locks.LOCK, EXPORT_LOCK, schema.PREVIOUS}
NETWORKS = {schema.CHECKPOINT, schema.GENERATOR}

State = tuple[int, int]  # of a file: when it was changed, in nanoseconds, and its bytes


# --- paths: a job's, which name files below the runner's folder, name files below the node's there


class Packer(pickle.Pickler):
    """Writes down paths below a folder as they are from there."""

    def __init__(self, file: io.BytesIO, below: Path) -> None:
        super().__init__(file)
        self.below = below

    def persistent_id(self, obj: object) -> str | None:
        below = isinstance(obj, PurePath) and obj.is_relative_to(self.below)
        return cast(PurePath, obj).relative_to(self.below).as_posix() if below else None


class Unpacker(pickle.Unpickler):
    """Reads such paths as being below another folder."""

    def __init__(self, file: io.BytesIO, below: Path) -> None:
        super().__init__(file)
        self.below = below

    def persistent_load(self, pid: str) -> Path:
        return self.below / pid


@dataclass(frozen=True)
class Abroad:
    """A job's call on its way to a node that does not have the runner's folder.

    Attributes:
        call: packed by `Packer`.
        log: the job's, from the runner's folder.
        parcel: what there is of the job already.
        brings_networks: whether the runner has a use for them.
        root: in place of the runner's folder, once the call has arrived.
    """

    call: bytes
    log: str
    parcel: bytes
    brings_networks: bool
    root: Path = Path()

    @classmethod
    def of(cls, job: Job, below: Path) -> Self:
        """A job's, with the files of its folder."""
        call = io.BytesIO()
        Packer(call, below).dump(job.call)
        parcel = pack(below, without_log(states(job.folder))) if job.folder else b""
        log = job.log.relative_to(below).as_posix()
        return cls(call.getvalue(), log, parcel, brings_networks=job.folder is not None)

    def __call__(self, tell: Tell) -> Result:
        return cast(Result, Unpacker(io.BytesIO(self.call), self.root).load()(tell))


@dataclass(frozen=True)
class Refused:
    """The call of a job whose files could not be put down."""

    why: str

    def __call__(self, tell: Tell) -> Result:
        raise InputError(self.why)


# --- parcels


def states(folder: Path) -> dict[Path, State]:
    """The files below a folder that travel, in the order to read them in: a journal tells of what is before it."""
    found: dict[Path, State] = {}
    for path in sorted(folder.rglob("*"), key=rank):
        partial = path.name.startswith(".") and path.suffix[1:].isdigit()  # `gans.files` is at it
        try:
            if path.name not in STAYS and not partial and path.is_file():
                found[path] = state(path)
        except FileNotFoundError:  # it was removed meanwhile
            continue
    return found


def state(path: Path) -> State:
    told = path.stat()
    return told.st_mtime_ns, told.st_size


def rank(path: Path) -> tuple[int, str]:
    """When a file is read: networks first, and before a journal how far a store has been told of it."""
    last = {events.MARKS: 1, events.FILE: 2}.get(path.name, 0)
    return (-1 if path.name in NETWORKS else last), str(path)


def without_log(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.name != schema.LOG]


def pack(below: Path, paths: Iterable[Path]) -> bytes:
    """Files, by their paths from a folder, read in this order; those that are gone by now are left out.

    How far a store has been told goes behind the journal that it counts in: so they are put down.
    """
    buffer = io.BytesIO()
    behind: list[tuple[tarfile.TarInfo, bytes]] = []
    with tarfile.open(fileobj=buffer, mode="w") as parcel:
        for path in paths:
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue
            entry = tarfile.TarInfo(path.relative_to(below).as_posix())
            entry.size = len(content)
            if path.name == events.MARKS:
                behind.append((entry, content))
            else:
                parcel.addfile(entry, io.BytesIO(content))
        for entry, content in behind:
            parcel.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def unpack(parcel: bytes, below: Path) -> list[Path]:
    """Put the files of a parcel below a folder, each whole or not at all; a log is added to the one that is there.

    Returns:
        Their paths.

    Raises:
        ValueError: a path leads out of the folder.
    """
    found: list[Path] = []
    if not parcel:
        return found
    with tarfile.open(fileobj=io.BytesIO(parcel)) as opened:
        for entry in opened:
            path = below / entry.name
            if Path(entry.name).is_absolute() or ".." in Path(entry.name).parts:
                raise ValueError(f"{entry.name} leads out of {below}")
            content = cast(io.BufferedReader, opened.extractfile(entry)).read()
            if path.name == schema.LOG and path.exists():
                content = path.read_bytes() + content
            files.write_bytes(path, content)
            found.append(path)
    return found


# --- on the node


@dataclass(eq=False)
class Guest:
    """The folder of a job on a node, and what of it the runner has.

    Attributes:
        root: in place of the runner's folder of runs.
        brings_networks: whether the runner has a use for them.
        known: by path.
        due: when the next parcel is, on the clock of `time.monotonic`.
    """

    root: Path
    brings_networks: bool
    known: dict[Path, State] = field(default_factory=dict)
    due: float = 0.0

    def parcel(self) -> bytes:
        """What has changed since the last one; empty if nothing has."""
        now = {path: state for path, state in states(self.root).items() if self.travels(path)}
        now = {path: now[path] for path in without_log(now)}  # that travels once, whole
        changed = [path for path, state in now.items() if self.known.get(path) != state]
        parcel = pack(self.root, changed) if changed else b""
        begun = any(path.name == events.FILE for path in now)
        self.known, self.due = now, time.monotonic() + (EVERY if begun else FIRST)
        return parcel

    def last(self) -> bytes:
        """What is still to be brought, the log too; then the folder is removed."""
        changed = [path for path, state in states(self.root).items() if self.known.get(path) != state]
        parcel = pack(self.root, filter(self.travels, changed))
        shutil.rmtree(self.root, ignore_errors=True)
        return parcel

    def travels(self, path: Path) -> bool:
        return self.brings_networks or path.name not in NETWORKS


class Guests:
    """The jobs that a host does for a runner whose folder its node does not have.

    Args:
        root: for the folders of jobs.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.there: dict[int, Guest] = {}
        self.count = 0

    def settle(self, number: int, job: Job) -> Job:
        """The job of this number as it is to be done here."""
        call = cast(Abroad, job.call)
        self.count += 1
        root = self.root / f"{number}-{self.count}"
        settled: Abroad | Refused = replace(call, root=root, parcel=b"")
        try:
            unpack(call.parcel, root)
            known = states(root)
        except OSError as error:
            settled, known = Refused(f"its files cannot be kept on {locks.HOST}: {system(error)}"), {}
        self.there[number] = Guest(root, call.brings_networks, known, time.monotonic() + FIRST)
        return replace(job, call=settled, log=root / call.log, folder=None)

    def parcels(self) -> Iterator[tuple[int, bytes]]:
        """What there is to be brought now, with the numbers of the jobs."""
        for number, guest in list(self.there.items()):
            if guest.due <= time.monotonic():
                with suppress(OSError):  # a folder was removed meanwhile: the next time tells
                    if parcel := guest.parcel():
                        yield number, parcel

    def leave(self, number: int) -> bytes:
        """The last parcel of a job that is over.

        Raises:
            OSError: its files cannot be read.
        """
        guest = self.there.pop(number, None)
        return guest.last() if guest else b""


# --- at the runner


class Depot(Protocol):
    """Where the runner's folder of runs has its truth, if that is elsewhere (`benchmarks.depot`)."""

    def fetch(self, folder: Path) -> None: ...

    def bring(self, paths: list[Path]) -> None: ...


class Loan:
    """A job that is done on a node without the runner's folder: the runner holds its folder, and fills it.

    Args:
        job: to be done.
        below: the folder of runs.
        depot: of that folder, if it has one.

    Raises:
        InUse: another process works on the folder.
        InputError: what a depot has of it cannot be had.
    """

    def __init__(self, job: Job, below: Path, depot: Depot | None) -> None:
        self.job, self.below, self.depot = job, below, depot
        with ExitStack() as stack:
            self.lock = stack.enter_context(locks.locked(job.folder)) if job.folder else None
            if depot and job.folder:
                depot.fetch(job.folder)
            self.stack = stack.pop_all()

    def packed(self) -> Job:
        """The job as it is sent."""
        return replace(self.job, call=Abroad.of(self.job, self.below))

    def receive(self, parcel: bytes) -> None:
        """Take in files.

        Raises:
            OSError: they cannot be kept.
        """
        paths = unpack(parcel, self.below)
        if self.depot:
            self.depot.bring(paths)

    def beat(self, images: int) -> None:
        """Tell those who wait for the folder."""
        if self.lock:
            self.lock.beat(images)

    def close(self) -> None:
        self.stack.close()


def anew(job: Job, away: bool) -> bool:
    """Whether a job that is done again has nothing to go on from.

    Args:
        job: what died.
        away: whether it was done on a node without the runner's folder.
    """
    return not (job.folder / schema.CHECKPOINT).exists() if job.folder else away
