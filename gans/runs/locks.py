"""Locks of folders, which end with their process.

A lock is the kernel's (`flock`) on a file, so it ends with its process. The file names its holder, for people and
for processes of other machines.
"""

import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from gans.errors import InputError

LOCK = ".lock"  # of a folder
GLANCE = 1.0  # seconds: a process that checks whether a lock is held, holds it for an instant
HOST = socket.gethostname()


class InUse(InputError):
    """Another process works on the same folder."""


def acquire(path: Path, seconds: float = GLANCE) -> TextIO:
    """A file that this process holds until it closes it; made if there is none.

    A BlockingIOError if another process holds it all these seconds.
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


def held(folder: Path) -> bool:
    """Whether a process of this machine holds a folder."""
    try:
        with (folder / LOCK).open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder_of(folder: Path) -> str:
    """Who holds a folder, or held it last: `process 12 on HOST`; a damaged file names nobody."""
    with suppress(OSError):
        content = (folder / LOCK).read_text(encoding="utf-8", errors="replace")
        if re.fullmatch(r"process \d+ on [ -~]+\n", content):
            return content.strip()
    return "another process"


def in_use(folder: Path) -> bool:
    """Whether a process may work in a folder: one of this machine holds it, or another machine's held it last."""
    host = holder_of(folder).partition(" on ")[2]
    return held(folder) or host not in ("", HOST)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, and clear away what a process that was killed while writing left there.

    `InUse` if another process holds it.
    """
    try:
        file = acquire(folder / LOCK)
    except BlockingIOError:
        raise InUse(f"{folder} is in use by {holder_of(folder)}; wait for it or stop it") from None
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {HOST}\n")
        file.flush()
        for leftover in folder.glob(".*.[0-9]*"):
            leftover.unlink(missing_ok=True)
        yield
