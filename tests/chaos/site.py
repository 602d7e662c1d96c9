"""The folder in which all trials run one after the other, its commands and their processes."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from tests import free_port

ROOT = Path(__file__).resolve().parents[2]
MARK = "GANS_CHAOS"  # in the environment of all processes of a trial
LOOK = 0.01  # seconds between looks for a moment
PARTING = 20.0  # seconds that processes have to end once their command has
LIMIT = 600.0  # seconds that a command may take, and a server to answer

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
BENCH = ("gans", "bench", "tiny.toml", "--device", "cpu", "--jobs", "2")
SWEEP = (
    *("gans", "sweep", "gan", "--space", "space.toml", "--budget", "0.005", "--trials", "2", "--pruner", "none"),
    *("--finalists", "1", "--fresh", "1", "--device", "cpu", "--jobs", "2"),
)
# what is in the folder once a moment is reached
SIGNS = {
    "start-up": "tiny.toml",
    "training": "runs/*/[gdt]*/*.jsonl",
    "checkpoint": "runs/*/*/checkpoint.pt",
    "evaluation": "runs/*/*/generator.safetensors",
    "report": "runs/*/.report",
}


class Site:
    """A working directory with a store and data of its own; `output.txt` has what commands of the code print."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder.absolute(), data.absolute()
        self.uri = f"sqlite:///{self.folder}/mlflow.db"

    def furnish(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tiny.toml").write_text(MATRIX)
        (self.folder / "space.toml").write_text(SPACE)

    def start(self, *words: str, uri: str = "") -> subprocess.Popen[bytes]:
        """Start `python -m WORDS` as the first process of a group."""
        own = {
            MARK: str(self.folder),
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": uri or self.uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "GANS_DATA": str(self.data),
            "GANS_OUTPUTS": str(self.folder / "outputs"),
        }
        with (self.folder / "output.txt").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=os.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(self, pattern: str, process: subprocess.Popen[bytes]) -> bool:
        """Wait until a file exists; False if the process ended before."""
        while process.poll() is None:
            if next(self.folder.glob(pattern), None):
                return True
            time.sleep(LOOK)
        return False

    def processes(self) -> list[psutil.Process]:
        """All processes of this site, those of an earlier call too."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(self.folder):
                    found.append(process)
        return found

    def left_over(self) -> int:
        """Processes that still run some time after their command has ended; they are killed."""
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
        signal_group(process, "KILL")
        process.wait()
        return -1


def signal_group(process: subprocess.Popen[bytes], name: str) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, getattr(signal, f"SIG{name}"))


def victims(process: subprocess.Popen[bytes], which: str) -> list[psutil.Process]:
    """The runner of a command, its fork server, or its cells; none if they do not run yet."""
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
        self.site, self.port = site, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return once it answers."""
        stores = ["--backend-store-uri", self.site.uri, "--artifacts-destination", f"{self.site.folder}/artifacts"]
        place = ["--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = self.site.start("mlflow", "server", *stores, *place)
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return
            time.sleep(0.2)
        raise TimeoutError(f"no answer from {self.uri}")

    def kill(self) -> None:
        signal_group(self.process, "KILL")
        self.process.wait()
