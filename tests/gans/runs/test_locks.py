"""Locks: who holds a folder, and that those of dead processes do not block."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gans.runs.locks import HOST, LOCK, InUse, held, holder_of, in_use, locked

HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds a file."""
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
    who = f"process {os.getpid()} on {HOST}"
    with locked(tmp_path):
        assert held(tmp_path)
        with pytest.raises(InUse, match=f"in use by {who}; wait for it or stop it"), locked(tmp_path):
            pass
    assert not held(tmp_path) and holder_of(tmp_path) == who
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"process 12 on elsew", "für später\n".encode("latin-1")])
def test_a_damaged_lock_names_nobody(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    assert holder_of(tmp_path) == "another process" and not in_use(tmp_path)
    with locked(tmp_path):
        assert in_use(tmp_path)


def test_a_lock_that_is_held_for_an_instant_is_waited_for(tmp_path):
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
