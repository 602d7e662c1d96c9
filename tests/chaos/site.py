"""The folder in which all trials run one after the other, its commands and their processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from gans.urls import free_port

ROOT = Path(__file__).resolve().parents[2]
MARK = "GANS_CHAOS"  # of the environment of all processes of a trial
LOOK = 0.01  # seconds between looks for a moment
PARTING = 20.0  # seconds that processes have to go once their command has ended
LIMIT = 900.0  # seconds that a command may take, and a server to answer

MATRIX = """
description = "Two tiny models, to be killed."
seeds = [0]
time_limit_minutes = 10
[datasets.digits]
[defaults]
kimg = 3.2
batch = 20
networks = { latent = 8, width = 8 }
optimizer = { lr_g = 3e-3, lr_d = 3e-3 }
score = { images = 300, curve_images = 200 }
schedule = { evaluations = 4, grids = 2, checkpoints = 4, logs = 8 }
[models.gan]
[models.dcgan]
"""
SPACE = """
batch = [20, 40]
networks.width = [4, 8]
optimizer.lr_g = { low = 1e-4, high = 1e-2, log = true }
"""
BENCH = ("benchmarks", "tiny.toml", "--device", "cpu", "--jobs", "2")
SWEEP = (
    *("sweeps", "gan", "--space", "space.toml", "--budget", "0.005", "--trials", "2", "--pruner", "none"),
    *("--finalists", "1", "--fresh", "1", "--device", "cpu", "--jobs", "2"),
)
# what lies in the folder once a moment is reached
SIGNS: Mapping[str, str] = {
    "start-up": "tiny.toml",
    "training": "runs/*/[gdt]*/journal.jsonl",
    "checkpoint": "runs/*/*/checkpoint.pt",
    "evaluation": "runs/*/*/generator.safetensors",
    "report": "runs/*/outcome.json",
}


class Site:
    """A working directory with a store of its own.

    Args:
        folder: of it; what a command prints goes to `said.txt` there.
        data: of data sets, with their caches.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder.absolute(), data.absolute()
        self.mark = str(self.folder)  # known to the next harness as well, if this one is stopped
        self.uri = f"sqlite:///{self.folder}/mlflow.db"

    def furnish(self) -> None:
        """Put the files there that commands name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tiny.toml").write_text(MATRIX)
        (self.folder / "space.toml").write_text(SPACE)

    def start(self, *words: str, uri: str | None = None) -> subprocess.Popen[bytes]:
        """`python -m WORDS`, as the first of a process group."""
        environment = {
            **os.environ,
            MARK: self.mark,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": uri or self.uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "GANS_DATA": str(self.data),
            "GANS_OUTPUTS": str(self.folder / "outputs"),
        }
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def run(self, *words: str, uri: str | None = None) -> int:
        """A command to its end; its exit code."""
        return ended(self.start(*words, uri=uri))

    def wait_for(self, moment: str, process: subprocess.Popen[bytes]) -> bool:
        """Until the moment is there; False if the process ended before."""
        while process.poll() is None:
            if next(self.folder.glob(SIGNS[moment]), None):
                return True
            time.sleep(LOOK)
        return False

    @property
    def said(self) -> str:
        file = self.folder / "said.txt"
        return file.read_text(errors="replace") if file.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """All that live, of any command of this site."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def left_over(self) -> int:
        """Processes that still live some time after their command has ended; they are killed then."""
        deadline = time.monotonic() + PARTING
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in found:
            with suppress(psutil.Error):
                process.kill()
        return len(found)


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process, -1 if it does not end: then its whole group is killed."""
    try:
        return process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return -1


def victims(process: subprocess.Popen[bytes], which: str) -> list[psutil.Process]:
    """The runner of a command, its fork server, or its cells; none if they are not there (yet)."""
    with suppress(psutil.Error):
        runner = psutil.Process(process.pid)
        if which == "runner":
            return [runner]
        servers = [child for child in runner.children() if "forkserver" in " ".join(child.cmdline())]
        return servers if which == "fork server" else [cell for server in servers for cell in server.children()]
    return []


class Server:
    """An MLflow server with all its processes, over a SQLite file in the folder of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return once it answers."""
        place = (
            "--backend-store-uri",
            self.site.uri,
            "--artifacts-destination",
            str(self.site.folder / "artifacts"),
        )
        self.process = self.site.start(
            *("mlflow", "server", *place, "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port))
        )
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.2)
        raise TimeoutError(f"no answer from {self.uri}")

    def signal(self, name: str) -> None:
        """To all of its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, getattr(signal, f"SIG{name}"))

    def end(self) -> None:
        self.signal("KILL")
        self.process.wait()
