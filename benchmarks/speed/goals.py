"""Figures on a GPU, compared with their goals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch

from benchmarks.speed.options import Goals
from benchmarks.speed.page import Page, Section, machine
from benchmarks.speed.steps import Timing
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans import places, schema
from gans.commands.options import command_line
from gans.compute import devices
from gans.data.datasets import data_root
from gans.errors import brief
from gans.places import SPEED

MATRIX = "papers-grey"
SECONDS = 0.5  # of a turn
TESTS = Path(__file__).parents[2] / "tests"
NOTE = """All by the defaults: recorded steps, in the device's default precision. Steps are
timed as `make speed` does: medians of turns, in which our trainer, its recorded step replayed bare and the
tutorial's trainer take part. The matrix starts from nothing but the data; its report is in its time."""
Measured = tuple[float, str]  # in the goal's unit, and a remark


@dataclass(frozen=True)
class Goal:
    """A figure to reach: `bound` is the most that it may be, or the least."""

    figure: str
    bound: float
    unit: str = ""
    least: bool = False

    def row(self, value: float | None, note: str) -> dict[str, str]:
        """The figure with its goal; None: it was not measured."""
        bound = f"at {'least' if self.least else 'most'} {self.text(self.bound)}"
        figure = {"figure": self.figure, "measured": "", "goal": bound, "verdict": "not measured", "note": note}
        if value is None:
            return figure
        met = value >= self.bound if self.least else value <= self.bound
        return figure | {"measured": self.text(value), "verdict": "met" if met else "**not met**"}

    def text(self, value: float) -> str:
        return f"{value:.4g} {self.unit}".strip()


# goals, and the one measurement that gives their figures in this order
Check = tuple[list[Goal], Callable[[], Sequence[Measured]]]


def checks(timing: Timing) -> list[Check]:
    """All of them, the quickest to show that something is broken first."""
    matrix = [Goal(f"matrix {MATRIX}", 200, "s"), Goal(f"evaluation's share of {MATRIX}", 10, "%")]
    return [
        ([Goal("tests that need a GPU and fail", 0)], run_tests),
        *(steps(size(model), timing) for size in (colour, small) for model in SIZES),
        iteration(papers("mdgan"), 3.0, timing),
        iteration(papers("sagan"), 6.5, timing),
        iteration(papers("sagan"), 4.2, replace(timing, compile=True), ", COMPILE=1"),
        (matrix, partial(make_matrix, MATRIX, timing.device)),
    ]


def take(checks: Iterable[Check]) -> pd.DataFrame:
    """Measure; figures are printed at once. An error costs the figures of its check, and no others."""
    rows = []
    for goals, measure in checks:
        try:
            found = [goal.row(*measured) for goal, measured in zip(goals, measure(), strict=True)]
        except Exception as error:
            found = [goal.row(None, brief(error).replace("|", "\\|")) for goal in goals]
        for row in found:
            print("{figure}: {measured} ({goal}) {verdict} {note}".format(**row), flush=True)
        rows += found
    return pd.DataFrame(rows)


def steps(workload: Workload, timing: Timing) -> Check:
    """Faster than the tutorial, and hardly slower than the arithmetic alone."""

    def measure() -> list[Measured]:
        found = timing.measure(workload)
        gain, overhead = found["tutorial"] / found["ours"], 100 * (found["ours"] / found["bare"] - 1)
        ours, tutorial = (1000 * found[who].median() for who in ("ours", "tutorial"))
        rounds = f"{overhead.min():+.1f} to {overhead.max():+.1f} by rounds"
        note = f"{found['precision'][0]}: {ours:.2f} ms, tutorial {tutorial:.2f} ms"
        return [(gain.median(), note), (overhead.median(), rounds)]

    gain = Goal(f"tutorial / ours, {workload.name}", 10, least=True)
    return [gain, Goal(f"overhead over the bare step, {workload.name}", 3, "%")], measure


def iteration(workload: Workload, bound: float, timing: Timing, how: str = "") -> Check:
    """An iteration of a recipe in milliseconds."""

    def measure() -> list[Measured]:
        found = timing.measure(workload)
        return [(1000 * found["ours"].median(), f"{found['precision'][0]}: {workload.note}")]

    return [Goal(f"an iteration of {workload.name}{how}", bound, "ms")], measure


def run_tests(folder: Path = TESTS, marked: str = "gpu") -> list[Measured]:
    """How many tests of a folder fail that have a mark, run in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-m", marked, str(folder)]
    done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
    summary = last_line(done.stdout or done.stderr)
    count = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", summary)}
    if not count.keys() - {"skipped"}:
        raise RuntimeError(f"no test ran: {summary}")
    failures = count.get("failed", 0) + count.get("error", 0)
    return [(failures, f"{count.get('passed', 0)} passed, {count.get('skipped', 0)} skipped")]


def make_matrix(name: str, device: torch.device, flags: Sequence[str] = ()) -> list[Measured]:
    """Seconds of a matrix from nothing but the data, and evaluation's percentage of the time of its cells."""
    with TemporaryDirectory() as folder:
        own = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", places.VARIABLE: ""}
        since = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "gans", "bench", name, "--device", str(device), *flags],
            cwd=folder,
            env={**os.environ, **own, "GANS_DATA": str(data_root().absolute())},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - since
        tables = list(Path(folder).glob("outputs/reports/*/tables/cells.csv"))
        if not tables:
            raise RuntimeError(f"no report; exit code {done.returncode}: {last_line(done.stderr)}")
        cells = pd.read_csv(tables[0])
    finished = (cells["status"] == schema.FINISHED).sum()
    if finished < len(cells):
        raise RuntimeError(f"{finished} of {len(cells)} cells finished")
    whole = cells[[schema.TRAINING, schema.EVALUATION, schema.OVERHEAD]].to_numpy().sum()
    return [(seconds, f"all {finished} cells finished"), (100 * cells[schema.EVALUATION].sum() / whole, "")]


def last_line(text: str) -> str:
    """The line of a program's output that says how it ended."""
    return next(reversed(text.strip().splitlines()), "no message")


def measure(command: Goals, device: torch.device) -> int:
    """Take all checks and write the page; 0 if every figure was measured. A goal that is not met is no error."""
    about = machine(device, command_line("gans gpu", command))
    found = take(checks(Timing(device, devices.cores(), command.rounds, SECONDS)))
    missing = int((found["verdict"] == "not measured").sum())
    about["goals met"] = f"{(found['verdict'] == 'met').sum()} of {len(found)}, {missing} not measured"
    page = Page("Goals on a GPU", about, [Section("Figures", NOTE, found, found)])
    path = page.write(f"{about['device']} goals", command.outputs / SPEED)
    print(f"goals met: {about['goals met']}\nwritten: {path}")
    return int(missing > 0)
