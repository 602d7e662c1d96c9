"""How a command ends: one line, without passwords, whatever stdout can show."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gans import files, find_home
from gans.errors import InputError, brief, exit_code

ROOT = Path(__file__).parents[2]


def raising(error: BaseException):
    def command() -> int:
        raise error

    return command


def test_a_full_disk_is_named_with_its_path(tmp_path, capsys):
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write() has it: without a name

    path = tmp_path / "checkpoint.pt"
    assert exit_code(lambda: files.atomically(path, full)) == 2
    assert capsys.readouterr().err == (
        f"error: {path}: No space left on device; free some space; the same command then resumes\n"
    )


def test_errors_are_one_line_without_passwords(capsys):
    assert exit_code(raising(InputError("no postgresql://u:hush@h/x\nbut more"))) == 2
    assert capsys.readouterr().err == "error: no postgresql://u:***@h/x but more\n"
    assert brief(ValueError("https://u:hush@h")) == "ValueError: https://u:***@h"


def test_letters_that_stdout_cannot_show_are_no_failure(monkeypatch):
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="ascii"))

    def command() -> int:
        print("1 ± 2", flush=True)
        return 0

    assert exit_code(command) == 0
    assert bytes_.getvalue() == b"1 \\xb1 2\n"


def test_a_reader_that_leaves_is_no_error():
    program = "from gans.errors import exit_code\nexit_code(lambda: print('line\\n' * 100_000) or 0)"
    shell = f'{sys.executable} -c "$PROGRAM" | head -1'
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PROGRAM": program}
    )
    assert (done.stdout, done.stderr) == ("line\n", "")


def test_a_user_without_a_home_gets_one(monkeypatch, tmp_path):
    def nobody(*_: object) -> None:
        raise KeyError("uid not found")

    for variable in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    find_home()
    assert Path.home() == tmp_path / f"gans-{os.getuid()}"
    assert Path.home().stat().st_mode & 0o777 == 0o700
    assert os.environ["USER"] == f"user-{os.getuid()}"


def test_a_home_that_is_not_there_is_bad_input():
    with pytest.raises(InputError, match="no such home"):
        files.expand("~nobody-of-this-name/x")
