"""Locks that die with their process: who works on a folder.

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

from gans.errors import InputError

LOCK = ".lock"  # of a folder
GLANCE = 1.0  # seconds: a process that checks whether a lock is held, holds it for an instant
ABANDONED = 60.0  # seconds: a new temporary folder has a lock that no process holds yet
HOST = socket.gethostname()


class InUse(InputError):
    """Another process works on the same folder."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a process `pid` of machine `host`, and the path of the lock's file."""

    host: str
    pid: int
    lock: str

    @classmethod
    def of(cls, folder: Path) -> Self:
        """This process, holding a folder."""
        return cls(HOST, os.getpid(), str((folder / LOCK).absolute()))

    def text(self) -> str:
        """As a lock's file, or the tag of a run, holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self | None:
        """None if it is no such text: a lock's file is written while others read it."""
        try:
            fields = json.loads(text)
            return cls(fields["host"], fields["pid"], fields["lock"])
        except (ValueError, TypeError, KeyError):
            return None

    @property
    def is_alive(self) -> bool:
        """Whether it may still be at work, as one on another machine always may."""
        return self.host != HOST or held(Path(self.lock))

    def __str__(self) -> str:
        return f"process {self.pid}" if self.host == HOST else f"process {self.pid} on {self.host}"


def acquire(path: Path, seconds: float = GLANCE) -> TextIO:
    """A file that this process holds until it closes it; made if there is none.

    Raises:
        BlockingIOError: another process holds it all these seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise
            time.sleep(0.02)


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
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, and clear away what a process that was killed while writing left there.

    Raises:
        InUse: another process holds it.
    """
    try:
        file = acquire(folder / LOCK)
    except BlockingIOError:
        who = holder_of(folder) or "another process"
        raise InUse(f"{folder} is in use by {who}; wait for it or stop it") from None
    with file:
        for leftover in folder.glob(".*.[0-9]*"):
            leftover.unlink(missing_ok=True)
        file.truncate(0)
        file.write(Holder.of(folder).text())
        file.flush()
        yield


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
