"""`python -m benchmarks MATRIX`: what `make bench` runs."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.executors.processes import preload
from benchmarks.matrix import check_names, select_matrix, tell_presets
from benchmarks.nodes import joined
from benchmarks.options import Bench
from gans.commands import options
from gans.commands.progress import busy
from gans.errors import exit_code
from gans.places import REPORTS
from gans.runs import databases
from gans.urls import tracking_uri

if TYPE_CHECKING:
    from benchmarks.matrix import Matrix
    from benchmarks.runner import MatrixRun


NEEDED = ("benchmarks.jobs", "gans.fidelity.scorer", "torchvision.utils")  # by every job


def main() -> int:
    return exit_code(lambda: run(options.parse(Bench, sys.argv[1:], "python -m benchmarks")))


def run(asked: Bench) -> int:
    """Train, score, track and report what is asked for.

    Returns:
        The exit code: 0 only if every selected cell is finished.
    """
    asked.validate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    outputs = asked.machine.outputs
    check_names(asked.matrix, asked.preset, asked.selection, outputs)
    databases.check_tracking(tracking_uri())
    matrix = select_matrix(asked.matrix, asked.preset, outputs, asked.selection)
    tell_presets(matrix, asked.selection)
    if not asked.dry_run and asked.machine.engine == "local":
        preload(*NEEDED)
    with joined(asked.machine, tracking_uri(), NEEDED, writes=not asked.dry_run) as machine:
        return bench(replace(asked, machine=machine), matrix)


def bench(asked: Bench, matrix: Matrix) -> int:
    """As `run`, of a matrix that is read, on a machine that has joined its cluster."""
    from benchmarks.runner import MatrixRun  # seconds to import, which a wrong name does not wait for
    from gans.runs.sync import say
    from gans.runs.tracking import Store

    if asked.dry_run:
        return dry(asked, matrix)
    with busy("reading data, looking for extractors"):
        matrix_run = MatrixRun(matrix, asked.selection, asked.machine, Store())
    for remark in matrix_run.remarks():
        print(remark)
    say(matrix_run.catch_up(), asked.machine.remedy)
    outcome = matrix_run.run()
    report(matrix_run)
    say(matrix_run.catch_up(), asked.machine.remedy)
    return outcome.exit_code


def dry(asked: Bench, matrix: Matrix) -> int:
    """Print the cells and their state, and what is left will take; nothing is kept, and no weights are needed."""
    from benchmarks.estimate import estimate
    from benchmarks.plan import MatrixPlan
    from benchmarks.progress import costs
    from gans.compute import devices
    from gans.runs.cell import described
    from gans.runs.tracking import Store

    with busy("reading data"):
        plan = MatrixPlan(matrix, asked.selection, asked.machine, Store(), described)
    for planned in plan.planned:
        state = planned.state if planned.selected else "not selected"
        print(f"{planned.cell.identity}  {planned.cell.name:<40} {state}")
    for lacking in plan.lacking():
        print(f"first needed: {lacking}")
    cells = [planned.cell for planned in plan.untrained()]
    if cells:
        threads, abreast = asked.machine.threads(plan.side), asked.machine.parallel(len(cells), plan.side)
        devices.prepare(plan.device, threads)
        with busy("taking some steps of each model"):
            print(estimate(cells, costs(plan.runs), plan.device, abreast))
    return 0


def report(run: MatrixRun) -> None:
    """Write the report, keep it with the invocation, show its ranking."""
    from gans.runs.courier import GRACE
    from gans.runs.locks import turn
    from gans.runs.reader import Reader  # seconds to import, not wanted before there is something to report
    from reports.report import write
    from reports.terminal import show

    reader = Reader(run.store, run.folder)
    with turn(run.folder / ".report"):  # another invocation of the same matrix writes the same files
        path = write(reader, run.experiment, run.machine.outputs / REPORTS)
        # report.html among it: the MLflow UI shows no pictures in markdown
        run.parent.artifacts(path.parent, "report")
        run.parent.close(GRACE)
    show(reader, run.experiment)
    print(f"report: {path}")


if __name__ == "__main__":
    sys.exit(main())
