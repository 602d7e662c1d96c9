"""Runs trials: disturb, run again, compare."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from gans.errors import InputError
from gans.urls import free_port
from tests.chaos import found
from tests.chaos.plan import DAMAGES, Trial
from tests.chaos.site import BENCH, LOOK, SWEEP, Server, Site, ended, victims

STOPPED = 5.0  # seconds of a server that is stopped for a while
COMMANDS = {"bench": BENCH, "sweep": SWEEP, "damage": BENCH, "server": BENCH}


@dataclass(frozen=True)
class Record:
    """What a trial came to.

    Attributes:
        trial: what was tried, as a table.
        hit: the processes, or the file, that were hit; empty if all was over before.
        codes: exit codes of the disturbed command and of the same once more.
        lost: cells and trials that had finished and were run again.
        moved: scores that are other than those of an undisturbed run.
        open: runs that the store says are running after all.
        files: parts of files that are left.
        processes: that lived on, after either command.
        seconds: of all of it.
    """

    trial: dict[str, Any]
    hit: str = ""
    codes: list[int | None] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    open: int = 0
    files: list[str] = field(default_factory=list)
    processes: int = 0
    seconds: float = 0.0

    @classmethod
    def read(cls, line: str) -> Self:
        return cls(**json.loads(line))


class Laboratory:
    """A folder with what undisturbed runs came to, in which trials run; all of it may be interrupted.

    Args:
        folder: its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(folder / "work", folder / "data")

    # --- what trials begin from and are compared with

    def expected(self, kind: str) -> found.Scores:
        """Of an undisturbed `bench` or `sweep`, run once.

        Raises:
            InputError: it fails.
        """
        file = self.folder / f"undisturbed-{kind}.json"
        if not file.exists():
            self.clear()
            if self.site.run(*COMMANDS[kind]) != 0:
                raise InputError(f"an undisturbed {kind} fails; {self.site.folder / 'said.txt'} says why")
            scores = found.tracked(self.site.folder / "mlflow.db").scores
            if kind == "bench":
                self.keep("whole")
            part = file.with_suffix(".part")
            part.write_text(json.dumps(scores))
            part.replace(file)
        return json.loads(file.read_text())

    def keep(self, name: str) -> None:
        """Keep the site, and its data, for `restore`."""
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        part = self.folder / f"{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(self.site.folder, part)
        part.replace(copy)

    def clear(self) -> None:
        """Begin with an empty site."""
        self.site.left_over()
        shutil.rmtree(self.site.folder, ignore_errors=True)
        self.site = Site(self.folder / "work", self.folder / "data")
        self.site.furnish()

    def restore(self, name: str) -> None:
        """Begin with a site that was kept, in its old place."""
        self.clear()
        shutil.copytree(self.folder / name, self.site.folder, dirs_exist_ok=True)

    def interrupted(self) -> None:
        """Begin with a matrix that was killed once some checkpoints were written."""
        if not (self.folder / "cut").exists():
            self.clear()
            process = self.site.start(*BENCH)
            while process.poll() is None and not list(self.site.folder.glob("runs/*/*/checkpoint.prev.pt")):
                time.sleep(LOOK)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.site.left_over()
            self.keep("cut")
        self.restore("cut")

    # --- trials

    def run(self, trial: Trial) -> Record:
        """Try it."""
        since = time.monotonic()
        expected = {} if trial.kind == "ui" else self.expected("sweep" if trial.kind == "sweep" else "bench")
        disturb = {
            "bench": self.killed,
            "sweep": self.killed,
            "damage": self.damaged,
            "server": self.served,
            "ui": self.viewed,
        }[trial.kind]
        result = disturb(trial)
        processes = result.pop("processes") + self.site.left_over()
        after = found.tracked(self.site.folder / "mlflow.db")
        return Record(
            trial=asdict(trial),
            moved=found.moved(expected, after.scores),
            open=after.open,
            files=found.stray(self.site.folder, self.site.data),
            processes=processes,
            seconds=round(time.monotonic() - since, 1),
            **result,
        )

    def again(self, trial: Trial, uri: str | None = None) -> tuple[int, list[str]]:
        """Run the command to its end: its exit code, and the finished work that it did once more."""
        before = found.finished(self.site.folder)
        code = self.site.run(*COMMANDS[trial.kind], uri=uri)
        after = found.finished(self.site.folder)
        return code, [name for name, key in before.items() if after.get(name) != key]

    def killed(self, trial: Trial) -> dict[str, Any]:
        """Kill a process of a command."""
        self.clear()
        process = self.site.start(*COMMANDS[trial.kind])
        hit = self.site.wait_for(trial.moment, process) and kill(trial, process)
        first = ended(process)
        processes = self.site.left_over()
        code, lost = self.again(trial)
        return {"hit": hit or "", "codes": [first, code], "lost": lost, "processes": processes}

    def damaged(self, trial: Trial) -> dict[str, Any]:
        """Damage a file of an interrupted matrix."""
        self.interrupted()
        files = (path for path in (self.site.folder / "runs").rglob("*") if path.is_file())
        some = sorted(path for path in files if path.stat().st_size)
        path = some[int(trial.draw * len(some))]
        path.write_bytes(DAMAGES[trial.victim](path.read_bytes()))
        code, lost = self.again(trial)
        hit = str(path.relative_to(self.site.folder))
        return {"hit": hit, "codes": [None, code], "lost": lost, "processes": 0}

    def served(self, trial: Trial) -> dict[str, Any]:
        """Let a matrix's server fail."""
        self.clear()
        server = Server(self.site)
        server.start()
        process = self.site.start(*BENCH, uri=server.uri)
        hit = self.site.wait_for(trial.moment, process)
        time.sleep(trial.delay)
        server.signal("KILL" if trial.victim == "killed" else "STOP")
        if trial.victim == "stopped":
            time.sleep(STOPPED)
            server.signal("CONT")
        first = ended(process)
        if trial.victim == "killed":
            server.end()
            server.start()
        server.signal("CONT")
        code, lost = self.again(trial, server.uri)
        server.end()
        return {"hit": "server" * hit, "codes": [first, code], "lost": lost, "processes": 0}

    def viewed(self, trial: Trial) -> dict[str, Any]:
        """End the UI over a finished matrix."""
        self.expected("bench")
        self.restore("whole")
        process = self.site.start("gans", "ui", "--port", str(free_port()))
        hit = kill(trial, process)
        first = ended(process)
        return {"hit": hit, "codes": [first], "processes": self.site.left_over()}


def kill(trial: Trial, process: subprocess.Popen[bytes]) -> str:
    """Send the trial's signal to its victim once that is there; what was hit."""
    time.sleep(trial.delay)
    number = getattr(signal, f"SIG{trial.signal}")
    while process.poll() is None:
        if trial.victim == "group":
            os.killpg(process.pid, number)
            return "group"
        some = victims(process, trial.victim)
        if some:
            one = some[int(trial.draw * len(some))]
            with suppress(psutil.NoSuchProcess):
                one.send_signal(number)
                return trial.victim
        time.sleep(LOOK)
    return ""
