"""What cells cost beside their training, a hundred to ten thousand of them: `python -m benchmarks.speed.scale`.

For each count, in a folder and a store of its own: a dry run; some cells that are simulated
(`benchmarks.speed.simulated`), and copied until all but a few are finished (`benchmarks.speed.multiplied`);
those few, simulated as well, so that it is seen what one more costs among so many; the report; a page of the
UI's table. Each is a process, whose CPU seconds and greatest memory the system counts: seconds on the clock say
little on a machine that does other things too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

from benchmarks.speed.page import table
from gans import places
from gans.commands import options
from gans.commands.options import Option
from gans.commands.outputs import Outputs
from gans.compute import devices
from gans.errors import InputError, exit_code
from gans.files import write_text
from gans.urls import free_port

NAME = "many"
MODELS = ("gan", "dcgan", "dcgan-nobn", "sagan", "mdgan")
FEW = 4  # seeds that are simulated first, and last
PAGE = 100  # rows of a page of MLflow's table
ASKED = 5  # times that a page of it is asked for


@dataclass(frozen=True)
class Scale:
    """Measure what cells cost beside their training, by cells that train nothing."""

    cells: Annotated[Sequence[int], Option("how many, each count by itself", least=50, most=100_000)] = (
        100,
        1_000,
        10_000,
    )
    points: Annotated[int, Option("moments at which a cell tells its losses", least=1, most=100)] = 10
    outputs: Outputs = field(default_factory=places.outputs)

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        options.check(self)


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds on the clock, seconds of CPU, greatest memory in MiB."""

    wall: float
    cpu: float
    memory: float


class Site:
    """A folder with a matrix of so many cells, and a store of its own.

    Args:
        folder: which is made; what an earlier measurement left there is taken as it is.
        cells: how many.
    """

    def __init__(self, folder: Path, cells: int) -> None:
        self.folder, self.cells = folder, cells
        folder.mkdir(parents=True, exist_ok=True)
        models = "".join(f"[models.{name}]\n" for name in MODELS)
        write_text(
            folder / f"{NAME}.toml", f"seeds = {list(range(self.seeds))}\n[datasets.digits]\nkimg = 10\n{models}"
        )

    def spent(self, module: str, *words: str) -> Spent:
        """What a module takes, run in this folder.

        Raises:
            InputError: it fails; what it said lies in the folder.
        """
        log = self.folder / f"{module}{'-dry' if '--dry-run' in words else ''}.txt"
        since = time.monotonic()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *words],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise InputError(f"{module} ended with code {process.returncode}; see {log}")
        return Spent(time.monotonic() - since, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)

    @property
    def environment(self) -> dict[str, str]:
        here = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH", ""))))
        return {**os.environ, "PYTHONPATH": here, "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}

    @property
    def seeds(self) -> int:
        return self.cells // len(MODELS)

    def told(self) -> tuple[float, float]:
        """Median seconds on the clock, and of CPU time, of the cells that were simulated last."""
        spent = json.loads((self.folder / "told.json").read_text(encoding="utf-8"))
        wall, cpu = zip(*spent, strict=True)
        return median(wall), median(cpu)

    def table(self) -> float:
        """Median seconds of a page of the UI's table, sorted by the score."""
        with self.serving() as address:
            body = {"experiment_ids": ["1"], "max_results": PAGE, "order_by": ["metrics.`score/fd_digits` ASC"]}
            request = urllib.request.Request(
                f"{address}/api/2.0/mlflow/runs/search",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            return median(answered(request) for _ in range(ASKED))

    @contextmanager
    def serving(self) -> Iterator[str]:
        """MLflow's server over the store, until the end."""
        port = free_port()
        words = [sys.executable, "-m", "gans", "ui", "--port", str(port)]
        with (
            (self.folder / "ui.txt").open("wb") as said,
            subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=said, stderr=said) as process,
        ):
            try:
                address = f"http://127.0.0.1:{port}"
                while not answers(address):
                    if process.poll() is not None:
                        raise InputError(f"gans ui ended; see {self.folder / 'ui.txt'}")
                    time.sleep(0.5)
                yield address
            finally:
                process.terminate()


def answers(address: str) -> bool:
    """Whether a server is there."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


def answered(request: urllib.request.Request) -> float:
    """Seconds until the answer is here."""
    since = time.perf_counter()
    with urllib.request.urlopen(request, timeout=300) as answer:
        answer.read()
    return time.perf_counter() - since


def measure(site: Site, points: int) -> dict[str, float]:
    """A row of the page."""
    matrix, last = f"{NAME}.toml", site.seeds - 1
    planned = site.spent("benchmarks", matrix, "--dry-run", "--device", "cpu")
    site.spent("benchmarks.speed.simulated", matrix, "0", str(FEW - 1), str(points))
    site.spent("benchmarks.speed.multiplied", matrix, str(FEW), str(last - FEW))
    driver = site.spent("benchmarks.speed.simulated", matrix, str(last - FEW + 1), str(last), str(points))
    wall, cpu = site.told()
    again = site.spent("benchmarks", matrix, "--dry-run", "--device", "cpu")
    report = site.spent("benchmarks.report", matrix)
    return {
        "cells": site.cells,
        "dry run, s": planned.wall,
        "dry run, CPU s": planned.cpu,
        "one more cell, ms": 1000 * wall,
        "one more cell, CPU ms": 1000 * cpu,
        "driver, MiB": driver.memory,
        "dry run of finished cells, s": again.wall,
        "dry run of finished cells, CPU s": again.cpu,
        "report, s": report.wall,
        "report, CPU s": report.cpu,
        "report, MiB": report.memory,
        "a page of the UI's table, s": site.table(),
        "store, MiB": (site.folder / "mlflow.db").stat().st_size / 2**20,
    }


def run(asked: Scale) -> int:
    """Measure, show and write the page; returns the exit code."""
    asked.validate()
    folder = asked.outputs / "scale"
    rows: list[dict[str, float]] = []
    for count in asked.cells:
        print(f"{count:,} cells", flush=True)
        rows.append(measure(Site(folder / str(count), count), asked.points))
        for name, value in rows[-1].items():
            print(f"  {name:<36}{value:>10.2f}", flush=True)
    write_text(folder / "README.md", page(rows, asked))
    print(f"written: {folder / 'README.md'}")
    return 0


def page(rows: list[dict[str, float]], asked: Scale) -> str:
    """The figures as markdown: a column for each count of cells."""
    names = list(rows[0])
    head = ["", *(f"{row['cells']:,.0f} cells" for row in rows)]
    body = [[name, *(f"{row[name]:.3g}" for row in rows)] for name in names if name != "cells"]
    command = options.command_line("python -m benchmarks.speed.scale", asked)
    lines = [
        "# What cells cost beside their training\n",
        f"Made by `{command}` on",
        f"{devices.describe(devices.resolve('cpu'))}. Each count has a folder and a SQLite store of its own.",
        f"Cells are simulated: each tells {asked.points} moments of its losses, and its scores, as a cell does,",
        "and trains nothing; most are copies of those.\n",
        table(head, body),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    return exit_code(lambda: run(options.parse(Scale, sys.argv[1:], "python -m benchmarks.speed.scale")))


if __name__ == "__main__":
    sys.exit(main())
