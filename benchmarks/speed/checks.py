"""The goals on a GPU, and how each of them is measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import torch

from benchmarks.runner import MatrixOutcome
from benchmarks.speed import contenders, costs
from benchmarks.speed.goals import Check, Found, Goal
from benchmarks.speed.page import Row
from benchmarks.speed.timing import Timing, Turns
from benchmarks.speed.workloads import SIZES, Workload, colour, papers, small
from gans import schema
from gans.compute import devices
from gans.runs.tracking import Store

MATRIX = "papers-grey"
SECONDS = 0.5  # of a turn
PARTS = (schema.TRAINING, schema.EVALUATION, schema.OVERHEAD)
TESTS = Path(__file__).parents[2] / "tests"


@dataclass(frozen=True)
class Tally:
    """How many tests ended how."""

    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True)
class MadeMatrix:
    """What a matrix cost.

    Attributes:
        seconds: from the command to its end.
        cells: seconds of each by part (`PARTS`).
    """

    seconds: float
    cells: Sequence[Mapping[str, float]]

    @property
    def share(self) -> float:
        """Of evaluation in the time of all cells."""
        whole = {part: sum(cell[part] for cell in self.cells) for part in PARTS}
        return evaluation(whole)

    @property
    def largest(self) -> float:
        """Likewise, of the cell that has most of it."""
        return max(map(evaluation, self.cells))


def evaluation(seconds: Mapping[str, float]) -> float:
    """Its share of all parts."""
    return seconds[schema.EVALUATION] / sum(seconds[part] for part in PARTS)


@dataclass(frozen=True)
class Tools:
    """What takes the measurements; each may raise, and then says why there is none.

    Attributes:
        tests: runs the tests that need a GPU.
        row: times a workload's contenders in the device's default precision.
        compiled: the same, with both networks through torch.compile.
        matrix: makes a matrix by name, by the defaults.
    """

    tests: Callable[[], Tally]
    row: Callable[[Workload], Row]
    compiled: Callable[[Workload], Row]
    matrix: Callable[[str], MadeMatrix]

    @classmethod
    def of(cls, device: torch.device, rounds: int) -> Tools:
        """Those that measure."""
        timing = Timing(device, devices.cores(), Turns(rounds, SECONDS))
        compiling = replace(timing, trainer=partial(contenders.trainer, compile=True))
        return cls(run_tests, partial(row, timing), partial(row, compiling), partial(make, device=device))


def checks(tools: Tools) -> list[Check]:
    """All of them, the quickest to tell that something is broken first."""
    workloads = [size(model) for size in (colour, small) for model in SIZES]
    return [
        tests(tools),
        *(steps(workload, tools) for workload in workloads),
        iteration(papers("mdgan"), 3.0, tools.row),
        iteration(papers("sagan"), 6.5, tools.row),
        iteration(papers("sagan"), 4.2, tools.compiled, ", COMPILE=1"),
        matrix(tools),
    ]


# --- the goals


def tests(tools: Tools) -> Check:
    def measure() -> list[Found]:
        tested = tools.tests()
        if not tested.passed + tested.failed:
            raise RuntimeError(f"no test ran, {tested.skipped} were skipped")
        return [Found(tested.failed, f"{tested.passed} passed, {tested.skipped} skipped")]

    return Check("tests that need a GPU", [Goal("tests that need a GPU and fail", 0)], measure)


def steps(workload: Workload, tools: Tools) -> Check:
    """Faster than the tutorial, and hardly slower than the arithmetic alone."""
    goals = [
        Goal(f"tutorial / ours, {workload.name}", 10, least=True),
        Goal(f"overhead over the bare step, {workload.name}", 3, "%"),
    ]
    return Check(f"steps of {workload.name}", goals, lambda: against(tools.row(workload)))


def against(row: Row) -> list[Found]:
    """Ours beside the tutorial, and the percentage that it takes longer than its bare step."""
    ours = f"ours {row.default}"
    gain, overhead = row.ratio("tutorial", ours), row.ratio(ours, f"bare {row.default}")
    assert gain and overhead
    both = f"{row.default}: {milliseconds(row, ours)}, tutorial {milliseconds(row, 'tutorial')}"
    rounds = f"{100 * (overhead.low - 1):+.1f} to {100 * (overhead.high - 1):+.1f} by rounds"
    return [Found(gain.median, both), Found(100 * (overhead.median - 1), rounds)]


def milliseconds(row: Row, contender: str) -> str:
    return f"{1000 * row.times[contender].median:.2f} ms"


def iteration(workload: Workload, bound: float, timed: Callable[[Workload], Row], how: str = "") -> Check:
    """An iteration of a recipe in milliseconds."""

    def measure() -> list[Found]:
        row = timed(workload)
        return [Found(1000 * row.times[f"ours {row.default}"].median, f"{row.default}: {row.note}")]

    name = f"an iteration of {workload.name}{how}"
    return Check(name, [Goal(name, bound, "ms")], measure)


def matrix(tools: Tools) -> Check:
    goals = [Goal(f"matrix {MATRIX}", 200, "s"), Goal(f"evaluation's share of {MATRIX}", 10, "%")]

    def measure() -> list[Found]:
        made = tools.matrix(MATRIX)
        most = f"of one cell {100 * made.largest:.1f} %"
        return [Found(made.seconds, f"all {len(made.cells)} cells finished"), Found(100 * made.share, most)]

    return Check(f"matrix {MATRIX}", goals, measure)


# --- how they are measured


def row(timing: Timing, workload: Workload) -> Row:
    """A workload's row in the precision that the device trains in unless asked for another."""
    kind = workload.default(timing.device)
    return timing.row({kind: workload.trained_in(kind)})


def run_tests(folder: Path = TESTS, marked: str = "gpu") -> Tally:
    """Run the tests of a folder that have a mark, in a process of their own."""
    with TemporaryDirectory() as written:
        report = Path(written) / "tests.xml"
        command = ["pytest", "-m", marked, f"--junit-xml={report}", str(folder)]
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=TESTS.parent, capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise RuntimeError(f"pytest ended with {costs.last_line(done.stderr or done.stdout)}")
        return counted(ElementTree.parse(report).getroot())


def counted(report: ElementTree.Element) -> Tally:
    """What a report in JUnit's format says."""
    suites = list(report.iter("testsuite"))
    total, failures, errors, skipped = (
        sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    return Tally(total - failures - errors - skipped, failures + errors, skipped)


def make(name: str, device: torch.device, flags: Sequence[str] = ()) -> MadeMatrix:
    """Make a matrix from nothing in a folder that is gone afterwards.

    Raises:
        RuntimeError: not every cell finished.
    """
    with TemporaryDirectory() as folder:
        made = costs.make(name, flags, device, Path(folder))
        outcome = made.outcome
        if outcome is None or outcome.exit_code:
            raise RuntimeError(f"{made.finished} cells finished; it ended with {made.end}")
        return MadeMatrix(made.seconds, cell_seconds(Store(costs.store(Path(folder))), outcome))


def cell_seconds(store: Store, outcome: MatrixOutcome) -> list[Mapping[str, float]]:
    """Seconds of each cell by part."""
    cells = [run for run in store.runs(outcome.experiment) if run.data.tags.get(schema.KIND) == schema.CELL]
    return [{part: run.data.metrics[part] for part in PARTS} for run in cells]
