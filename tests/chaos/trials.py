"""Runs trials: disturb, run again, compare."""

import json
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from gans.errors import InputError
from tests.chaos import found
from tests.chaos.plan import DAMAGES, Trial
from tests.chaos.site import BENCH, LOOK, SIGNS, SWEEP, Server, Site, ended, signal_group, victims

STOPPED = 5.0  # seconds of a server that is stopped for a while


@dataclass(frozen=True)
class Record:
    """The result of a trial."""

    trial: dict[str, Any]
    hit: str = ""  # the process or the file; empty if the command had ended before
    codes: list[int | None] = field(default_factory=list)  # of the disturbed command, and of the same once more
    lost: list[str] = field(default_factory=list)  # cells and trials that had finished and were run again
    moved: list[str] = field(default_factory=list)  # scores that differ from those of an undisturbed run
    open: int = 0  # runs that the store says are running after all
    twice: int = 0  # points of curves that the store has more than once
    files: list[str] = field(default_factory=list)  # parts of files
    processes: int = 0  # left over after either command
    seconds: float = 0.0


class Laboratory:
    """A folder with the results of undisturbed runs, in which trials run; all of it may be interrupted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = Site(folder / "work", folder / "data")

    def run(self, trial: Trial) -> Record:
        since = time.monotonic()
        expected = self.expected("sweep" if trial.kind == "sweep" else "bench")
        disturb = {"damage": self.damage, "server": self.disturb_server}
        result = disturb.get(trial.kind, self.kill)(trial)
        result["processes"] = result.get("processes", 0) + self.site.left_over()
        after = found.tracked(self.site.folder / "mlflow.db")
        return Record(
            trial=asdict(trial),
            moved=found.moved(expected, after.scores),
            open=after.open,
            twice=after.twice,
            files=found.stray(self.site.folder, self.site.data),
            seconds=round(time.monotonic() - since, 1),
            **result,
        )

    # --- what trials begin from and are compared with

    def expected(self, kind: str) -> found.Scores:
        """The scores of an undisturbed `bench` or `sweep`, which is run once."""
        file = self.folder / f"undisturbed-{kind}.json"
        if not file.exists():
            self.clear()
            if ended(self.site.start(*words(kind))) != 0:
                raise InputError(f"an undisturbed {kind} fails; {self.site.folder / 'output.txt'} says why")
            file.write_text(json.dumps(found.tracked(self.site.folder / "mlflow.db").scores))
        return json.loads(file.read_text())

    def clear(self) -> None:
        """Begin with an empty site."""
        self.site.left_over()
        shutil.rmtree(self.site.folder, ignore_errors=True)
        self.site.furnish()

    def interrupted(self) -> None:
        """Begin with a matrix that was killed once it had written two checkpoints of a cell."""
        self.clear()
        process = self.site.start(*BENCH)
        self.site.wait_for("runs/*/*/checkpoint.prev.pt", process)
        signal_group(process, "KILL")
        process.wait()
        self.site.left_over()

    # --- disturbances

    def again(self, *words: str, uri: str = "") -> tuple[int, list[str]]:
        """Run the command to its end; returns its exit code, and the finished work that it repeated."""
        before = found.finished(self.site.folder)
        code = ended(self.site.start(*words, uri=uri))
        after = found.finished(self.site.folder)
        return code, [name for name, key in before.items() if after.get(name) != key]

    def kill(self, trial: Trial) -> dict[str, Any]:
        """Send a signal to a process of a command."""
        self.clear()
        process = self.site.start(*words(trial.kind))
        hit = send(trial, process) if self.site.wait_for(SIGNS[trial.moment], process) else ""
        first = ended(process)
        processes = self.site.left_over()
        code, lost = self.again(*words(trial.kind))
        return {"hit": hit, "codes": [first, code], "lost": lost, "processes": processes}

    def damage(self, trial: Trial) -> dict[str, Any]:
        """Damage a file of an interrupted matrix."""
        self.interrupted()
        files = (path for path in (self.site.folder / "runs").rglob("*") if path.is_file())
        some = sorted(path for path in files if path.stat().st_size)
        path = some[int(trial.draw * len(some))]
        path.write_bytes(DAMAGES[trial.victim](path.read_bytes()))
        code, lost = self.again(*BENCH)
        return {"hit": str(path.relative_to(self.site.folder)), "codes": [None, code], "lost": lost}

    def disturb_server(self, trial: Trial) -> dict[str, Any]:
        """Kill or stop the tracking server of a matrix."""
        self.clear()
        server = Server(self.site)
        server.start()
        process = self.site.start(*BENCH, uri=server.uri)
        hit = self.site.wait_for(SIGNS[trial.moment], process)
        time.sleep(trial.delay)
        signal_group(server.process, "KILL" if trial.victim == "killed" else "STOP")
        if trial.victim == "stopped":
            time.sleep(STOPPED)
            signal_group(server.process, "CONT")
        first = ended(process)
        if trial.victim == "killed":
            server.kill()
            server.start()
        signal_group(server.process, "CONT")
        code, lost = self.again(*BENCH, uri=server.uri)
        server.kill()
        return {"hit": "server" * hit, "codes": [first, code], "lost": lost}


def words(kind: str) -> tuple[str, ...]:
    return SWEEP if kind == "sweep" else BENCH


def send(trial: Trial, process: subprocess.Popen[bytes]) -> str:
    """Send the trial's signal to its victim once that runs; returns the victim."""
    time.sleep(trial.delay)
    while process.poll() is None:
        if trial.victim == "group":
            signal_group(process, trial.signal)
            return "group"
        some = victims(process, trial.victim)
        if some:
            with suppress(psutil.NoSuchProcess):
                some[int(trial.draw * len(some))].send_signal(getattr(signal, f"SIG{trial.signal}"))
                return trial.victim
        time.sleep(LOOK)
    return ""
