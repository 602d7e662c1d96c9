"""`python -m benchmarks MATRIX`: what `make bench` runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from benchmarks.engine import preload
from benchmarks.matrix import select_matrix, tell_presets
from benchmarks.options import Bench
from gans.commands import options
from gans.errors import exit_code
from gans.places import REPORTS

if TYPE_CHECKING:
    from benchmarks.runner import MatrixRun, Planned


def main() -> int:
    return exit_code(lambda: run(options.parse(Bench, sys.argv[1:], "python -m benchmarks")))


def run(asked: Bench) -> int:
    """Train, score, track and report what is asked for.

    Returns:
        The exit code: 0 only if every selected cell is finished.
    """
    asked.validate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    matrix = select_matrix(asked.matrix, asked.preset, asked.machine.outputs)
    matrix.check_names(asked.selection)
    tell_presets(matrix, asked.selection)
    if not asked.dry_run:
        preload("benchmarks.jobs", "gans.fidelity.scorer", "sklearn.datasets", "torchvision.utils")
    from benchmarks.runner import MatrixRun  # seconds to import, which a wrong name does not wait for
    from gans.runs.tracking import Store

    matrix_run = MatrixRun(matrix, asked.selection, asked.machine, Store())
    if asked.dry_run:
        show(matrix_run.planned)
        return 0
    for remark in matrix_run.remarks():
        print(remark)
    outcome = matrix_run.run()
    report(matrix_run)
    return outcome.exit_code


def show(cells: Iterable[Planned]) -> None:
    """Print the cells and their state."""
    for planned in cells:
        state = planned.state if planned.selected else "not selected"
        print(f"{planned.cell.identity}  {planned.cell.name:<40} {state}")


def report(run: MatrixRun) -> None:
    """Write the report, keep it with the invocation, show its ranking."""
    from reports.html import standalone  # seconds to import, not wanted before there is something to report
    from reports.report import write
    from reports.terminal import show

    path = write(run.store, run.experiment, run.machine.outputs / REPORTS)
    run.parent.artifacts(path.parent, "report")
    run.parent.text(standalone(path), "report/report.html")  # the MLflow UI shows no pictures in markdown
    show(run.store, run.experiment)
    print(f"report: {path}")


if __name__ == "__main__":
    sys.exit(main())
