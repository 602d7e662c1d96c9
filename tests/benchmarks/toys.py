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


def aborting(tell, folder=None, others=0):
    """Dies as soon as so many of the others have begun."""
    if folder:
        wait_for(Path(folder), others)
    os.abort()


def telling(tell):
    while True:
        tell(0, {})
        time.sleep(0.05)


def begin(folder):
    """Leave a line for a start."""
    with (folder / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")


def wait_for(folder, starts):
    """Until there were so many; or for good, if they do not come."""
    path = folder / "starts.txt"
    while not path.exists() or len(path.read_text().split()) < starts:
        time.sleep(0.02)


def steady(tell, folder, starts=0, seconds=0.0):
    """Goes on until there were so many starts, and so long."""
    begin(Path(folder))
    wait_for(Path(folder), starts)
    time.sleep(seconds)
    return Result("finished", str(os.getpid()))


def quick(tell, folder):
    steady(tell, folder, seconds=0.7)
    return Result("finished")


def greedy(tell, folder):
    """Finds no memory while another like it is at work in the same process, which waits for that."""
    lock, refused = Path(folder) / f"memory-{os.getpid()}", Path(folder) / "refused"
    begin(Path(folder))
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        refused.touch()
        raise MemoryError("tried to allocate 9 GiB") from None
    while not refused.exists():
        time.sleep(0.02)
    lock.unlink()
    return Result("finished")


def insatiable(tell):
    raise MemoryError("tried to allocate 999 GiB")


def writing(tell, folder, dies=0):
    """Counts its lives in a checkpoint; dies in as many of them."""
    print("began", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    lives = int(checkpoint.read_bytes()) + 1 if checkpoint.exists() else 1
    checkpoint.write_bytes(str(lives).encode())
    (folder / "picture.png").write_bytes(b"picture")
    if lives <= dies:
        killed(tell)
    return Result("finished")
