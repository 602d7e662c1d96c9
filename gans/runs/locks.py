"""Locks that die with their process: who works on a folder, and how far it is.

A lock is the kernel's (`flock`) on a file, so it ends with its process. The file names its holder, for people and
for processes of other machines.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TextIO

import psutil

from gans.errors import InputError

LOCK = ".lock"  # of a folder
GLANCE = 1.0  # seconds: a process that checks whether a lock is held, holds it for an instant
BEAT = 2.0  # seconds between writes of a holder's progress
ABANDONED = 60.0  # seconds: a new temporary folder has a lock that no process holds yet
HOST = socket.gethostname()


class InUse(InputError):
    """Another process works on the same folder."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        host: its machine.
        pid: its process there.
        born: when that process started, in seconds since 1970: numbers of processes are given again.
        lock: path of the file.
        images: that its training has seen, if it writes them.
    """

    host: str
    pid: int
    born: float
    lock: str
    images: int = 0

    @classmethod
    def of(cls, folder: Path) -> Self:
        """This process, holding a folder."""
        return cls(HOST, os.getpid(), psutil.Process().create_time(), str((folder / LOCK).absolute()))

    def text(self) -> str:
        """As a lock's file, or the tag of a run, holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self | None:
        """None if it is no such text: a lock's file is written while others read it."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    @property
    def is_alive(self) -> bool:
        """Whether it may still be at work, as one on another machine always may."""
        if self.host != HOST:
            return True
        # a folder that was moved since has no lock at its old place
        return held(Path(self.lock)) if Path(self.lock).exists() else alive(self.pid, self.born)

    def __str__(self) -> str:
        return f"process {self.pid}" if self.host == HOST else f"process {self.pid} on {self.host}"


class Lock:
    """A lock that this process holds."""

    def __init__(self, file: TextIO, holder: Holder) -> None:
        self.file, self.holder = file, holder
        self.write(holder)

    def write(self, holder: Holder) -> None:
        self.file.seek(0)
        self.file.write(holder.text())
        self.file.truncate()
        self.file.flush()
        self.written = time.monotonic()

    def beat(self, images: int) -> None:
        """Write, some seconds apart, how many images training has seen, for those who wait."""
        if time.monotonic() - self.written > BEAT:
            self.write(Holder(**asdict(self.holder) | {"images": images}))


def acquire(path: Path, seconds: float = GLANCE) -> TextIO:
    """A file that this process holds until it closes it.

    Args:
        path: of the file, made if there is none.
        seconds: to wait for another holder.

    Raises:
        BlockingIOError: another process holds it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if same(file, path):
                return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise
            time.sleep(0.02)
        file.close()


def same(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one of this path: its last holder may have removed it."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def held(path: Path) -> bool:
    """Whether a process of this machine holds the file."""
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder_of(folder: Path) -> Holder | None:
    """Who holds a folder, by its file."""
    with suppress(OSError):
        return Holder.of_text((folder / LOCK).read_text(encoding="utf-8"))
    return None


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold a folder, and clear away what a process that was killed while writing left there.

    Raises:
        InUse: another process holds it.
    """
    path = folder / LOCK
    try:
        file = acquire(path)
    except BlockingIOError:
        who = holder_of(folder) or "another process"
        raise InUse(f"{folder} is in use by {who}; wait for it or stop it") from None
    with file:
        for leftover in folder.glob(".*.[0-9]*"):
            leftover.unlink(missing_ok=True)
        yield Lock(file, Holder.of(folder))


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until no other process is within such a block on this path, for as long as it takes."""
    with acquire(path, float("inf")):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def temporary_folder(prefix: str) -> Path:
    """A new temporary folder that this process holds; those of processes that have ended are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # another user's, or one that has no lock any more since it is to be kept
            if time.time() - (left / LOCK).stat().st_mtime > ABANDONED and not held(left / LOCK):
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    _temporary.append(acquire(folder / LOCK))
    return folder


_temporary: list[TextIO] = []  # open, and so held


def alive(pid: int, born: float) -> bool:
    """Whether this process of this machine, and not another that got its number, is there."""
    try:
        process = psutil.Process(pid)
        # the system clock may be corrected meanwhile
        return abs(process.create_time() - born) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
