"""Figures to reach on a GPU, beside their goals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import pandas as pd
import torch

from benchmarks.speed.bench import PARTS, bench, last_line
from benchmarks.speed.options import Goals
from benchmarks.speed.page import Page, Section
from benchmarks.speed.steps import Timing
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans import schema
from gans.commands.options import command_line
from gans.compute import devices
from gans.errors import brief
from gans.places import SPEED
from gans.runs.provenance import provenance

MATRIX = "papers-grey"
SECONDS = 0.5  # of a turn
TESTS = Path(__file__).parents[2] / "tests"
NOTE = """Defaults throughout: recorded steps, in the precision that the device trains in by default. Steps are
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
        """The figure beside its goal; None: it was not measured."""
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
        kind, found = timed(workload, timing)
        gain, overhead = found["tutorial"] / found["ours"], 100 * (found["ours"] / found["bare"] - 1)
        ours, tutorial = (1000 * found[who].median() for who in ("ours", "tutorial"))
        rounds = f"{overhead.min():+.1f} to {overhead.max():+.1f} by rounds"
        return [(gain.median(), f"{kind}: {ours:.2f} ms, tutorial {tutorial:.2f} ms"), (overhead.median(), rounds)]

    gain = Goal(f"tutorial / ours, {workload.name}", 10, least=True)
    return [gain, Goal(f"overhead over the bare step, {workload.name}", 3, "%")], measure


def iteration(workload: Workload, bound: float, timing: Timing, how: str = "") -> Check:
    """An iteration of a recipe in milliseconds."""

    def measure() -> list[Measured]:
        kind, found = timed(workload, timing)
        return [(1000 * found["ours"].median(), f"{kind}: {workload.note}")]

    return [Goal(f"an iteration of {workload.name}{how}", bound, "ms")], measure


def timed(workload: Workload, timing: Timing) -> tuple[str, pd.DataFrame]:
    """The precision that the device trains in by default, and the rounds in it."""
    kind = workload.default(timing.device)
    return kind, timing.measure(workload.trained_in(kind))


def run_tests(folder: Path = TESTS, marked: str = "gpu") -> list[Measured]:
    """How many tests of a folder fail that have a mark, run in a process of their own."""
    with TemporaryDirectory() as written:
        report = Path(written) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", marked, f"--junit-xml={report}", str(folder)]
        done = subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)
        if not report.exists():
            raise RuntimeError(f"pytest ended with {last_line(done.stderr or done.stdout)}")
        suites = list(ElementTree.parse(report).iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    if total == skipped:
        raise RuntimeError(f"no test ran, {skipped} were skipped")
    return [(failures + errors, f"{total - failures - errors - skipped} passed, {skipped} skipped")]


def make_matrix(name: str, device: torch.device, flags: Sequence[str] = ()) -> list[Measured]:
    """Seconds of a matrix from nothing, and evaluation's percentage of the time of its cells."""
    seconds, cells = bench(name, flags, device)
    finished = (cells["status"] == schema.FINISHED).sum()
    if finished < len(cells):
        raise RuntimeError(f"{finished} of {len(cells)} cells finished")
    share = 100 * cells[schema.EVALUATION].sum() / cells[PARTS].to_numpy().sum()
    return [(seconds, f"all {len(cells)} cells finished"), (share, "")]


def measure(command: Goals, device: torch.device) -> int:
    """Take all checks and write the page; 0 if every figure was measured. A goal that is not met is no error."""
    code = provenance()
    machine = {
        "device": devices.describe(device),
        "commit": code[schema.COMMIT] + (" (changed)" if code[schema.DIRTY] == "true" else ""),
        "torch": torch.__version__,
        "command": command_line("gans gpu", command),
    }
    found = take(checks(Timing(device, devices.cores(), command.rounds, SECONDS)))
    missing = int((found["verdict"] == "not measured").sum())
    machine["goals met"] = f"{(found['verdict'] == 'met').sum()} of {len(found)}, {missing} not measured"
    path = Page("Goals on a GPU", machine, [Section("Figures", NOTE, found, found)]).write(
        f"{machine['device']} goals", command.outputs / SPEED
    )
    print(f"goals met: {machine['goals met']}\nwritten: {path}")
    return int(missing > 0)
