"""Jobs that end in every way; nothing heavy is imported here, since each process of theirs imports it."""

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.job import Result
from gans.errors import InputError
from gans.runs.locks import InUse


def well(report, folder=None):
    report(3, {"loss": 0.5})
    print("said on standard output")
    return Result("finished")


def raising(report, folder=None):
    raise ValueError("first line\nsecond line")


def refusing(report, folder=None):
    raise InputError("the folder is in use")


def waiting(report, folder):
    """Finds its folder in use the first time, and finishes the second time."""
    try:
        (folder / "looked").touch(exist_ok=False)
    except FileExistsError:
        return Result("finished")
    raise InUse("another process does it")


def killed(report, folder=None):
    os.kill(os.getpid(), signal.SIGKILL)


def endless(report, folder=None, pidfile=None):
    if pidfile:
        Path(pidfile).write_text(str(os.getpid()))
    while True:
        time.sleep(0.1)


def slow(report, folder=None):
    time.sleep(0.4)
    return Result("finished")


def leaving(report, folder=None):
    sys.exit(3)


def exiting(report, folder=None):
    os._exit(3)


def aborting(report, folder=None, shared=None, others=0):
    """Aborts as soon as so many of the others have begun."""
    if shared:
        wait_for(shared, others)
    os.abort()


def begin(folder):
    """Write a line for a start."""
    with (Path(folder) / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")


def wait_for(folder, starts):
    """Wait until there are so many starts."""
    path = Path(folder) / "starts.txt"
    while not path.exists() or len(path.read_text().split()) < starts:
        time.sleep(0.02)


def steady(report, folder=None, shared="", starts=0, seconds=0.0):
    """Runs until there are so many starts, and at least so many seconds."""
    begin(shared)
    wait_for(shared, starts)
    time.sleep(seconds)
    return Result("finished", str(os.getpid()))


def insatiable(report, folder=None):
    raise MemoryError("tried to allocate 999 GiB")
