"""Locks: who holds a folder, how far it is, and that those of dead processes do not block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gans.runs import locks
from gans.runs.locks import LOCK, Holder, InUse, held, holder_of, locked, turn

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a file, and imports nothing for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_folder_is_held_by_one_and_says_by_whom(tmp_path):
    with locked(tmp_path) as lock:
        assert held(tmp_path / LOCK)
        with (
            pytest.raises(InUse, match=f"in use by process {os.getpid()}; wait for it or stop it"),
            locked(tmp_path),
        ):
            pass
        lock.written = -locks.BEAT  # it spoke long ago
        lock.beat(1200)
        lock.beat(1300)  # too soon
        assert holder_of(tmp_path) == replace(Holder.of(tmp_path), images=1200)
    assert not held(tmp_path / LOCK)
    with locked(tmp_path):
        pass


def test_who_only_looks_keeps_nobody_out(tmp_path):
    """A lock that is held for an instant is waited for."""
    with holding(tmp_path / LOCK) as other:
        subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {other.pid}"])
        with locked(tmp_path):
            pass


def test_what_a_killed_writer_left_is_cleared_away(tmp_path):
    (tmp_path / ".checkpoint.pt.123").write_text("half")
    (tmp_path / "checkpoint.pt").write_text("whole")
    with locked(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "checkpoint.pt"]


def test_a_holder_lives_as_long_as_its_lock(tmp_path):
    path = tmp_path / LOCK
    mine = Holder.of_text(Holder.of(tmp_path).text())
    assert mine == Holder.of(tmp_path)
    with holding(path):
        assert mine.is_alive
    assert not mine.is_alive  # its process does, but it holds no lock
    path.unlink()
    assert mine.is_alive  # the folder may have moved: then its process counts
    assert not replace(mine, born=mine.born - 60).is_alive  # another one with its number
    assert replace(mine, host="elsewhere", born=0).is_alive  # that cannot be seen from here
    assert Holder.of_text('{"host": "x"') is None
    assert Holder.of_text(json.dumps({"host": "x"})) is None


def test_turns_are_taken_one_after_the_other_and_leave_nothing(tmp_path):
    path = tmp_path / ".turn"
    with holding(path) as other:
        began = time.monotonic()
        subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {other.pid}"])
        with turn(path):
            assert time.monotonic() - began > 0.2
            assert held(path)
    assert list(tmp_path.iterdir()) == []
