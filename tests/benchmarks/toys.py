"""Jobs that end in every way; nothing heavy is imported here, since each process of theirs imports it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.engine import Result
from gans.errors import InputError


def well(tell):
    tell(3, {"loss": 0.5})
    print("said on standard output")
    return Result("finished")


def raising(tell):
    raise ValueError("first line\nsecond line")


def refusing(tell):
    raise InputError("the folder is in use")


def killed(tell):
    os.kill(os.getpid(), signal.SIGKILL)


def endless(tell, pidfile=None):
    if pidfile:
        Path(pidfile).write_text(str(os.getpid()))
    while True:
        time.sleep(0.1)


def slow(tell):
    time.sleep(0.4)
    return Result("finished")


def leaving(tell):
    sys.exit(3)


def exiting(tell):
    os._exit(3)


def aborting(tell):
    time.sleep(0.5)  # the others have begun
    os.abort()


def telling(tell):
    while True:
        tell(0, {})
        time.sleep(0.05)


def steady(tell, folder, seconds=1.5):
    """Leaves a line for each start."""
    with (Path(folder) / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return Result("finished", str(os.getpid()))


def quick(tell, folder):
    steady(tell, folder, 0.7)
    return Result("finished")


def greedy(tell, folder, hold=1.2):
    """Finds no memory while another like it is at work in the same process."""
    lock = Path(folder) / f"memory-{os.getpid()}"
    with (Path(folder) / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        raise MemoryError("tried to allocate 9 GiB") from None
    time.sleep(hold)
    lock.unlink()
    return Result("finished")


def insatiable(tell):
    raise MemoryError("tried to allocate 999 GiB")
