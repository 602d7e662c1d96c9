"""`gans bench | rescore | report | compare | sensitivity`. Slow imports follow the checks of options."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from benchmarks.options import FEWEST_DAMAGED, MOST_DAMAGED, Bench, Machine, Report, Rescore, Runs
from gans import files, schema
from gans.commands.options import Device, check_dataset, option
from gans.errors import InputError, shown
from gans.files import REPORTS, tracking_uri
from gans.runs import databases
from gans.runs.events import run_paths

if TYPE_CHECKING:
    from benchmarks.matrix import Matrix
    from benchmarks.runner import MatrixRun
    from gans.runs.store import Store, Tracked

NEEDED = ("benchmarks.jobs", "gans.fidelity.scorer", "torchvision.utils")  # by every job


def begin() -> None:
    """What every command that runs jobs does first: it checks the store, and lets SIGTERM act as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    databases.check(tracking_uri())


def read(options: Bench | Rescore) -> Matrix:
    """The matrix of a command that runs cells, after checks of its store and names."""
    from benchmarks.matrix import read_matrix

    options.machine.validate()
    begin()
    matrix = read_matrix(options.matrix, options.preset, options.machine.outputs, options.selection)
    for line in matrix.presets(options.selection):
        print(line)
    return matrix


def bench(options: Bench = Bench()) -> int:
    """Returns 0 only if every selected cell is finished."""
    matrix = read(options)
    from benchmarks.executors.processes import preload
    from benchmarks.executors.ray import joined

    if not options.dry_run and options.machine.engine == "local":
        preload(*NEEDED)
    with joined(options.machine, writes=not options.dry_run) as machine:
        run = dry if options.dry_run else train
        return run(replace(options, machine=machine), matrix)


def train(options: Bench, matrix: Matrix) -> int:
    """Train, score, track and report, on a machine that has joined its cluster."""
    from benchmarks.runner import MatrixRun
    from gans.commands.progress import busy
    from gans.runs.store import Store

    with busy("loading data and extractors"):
        run = MatrixRun(matrix, options.selection, options.machine, Store())
    for remark in run.remarks():
        print(remark)
    return carry_out(run)


def carry_out(run: MatrixRun) -> int:
    """Do what the run has to do, and write the report."""
    from gans.runs.export import exporting

    with exporting(run.folder, run.store):
        code = run.run()
        write_report(run)
    return code


def dry(options: Bench, matrix: Matrix) -> int:
    """Print the cells, their state and an estimate; nothing is kept, and no weights are needed."""
    from benchmarks.plan import MatrixPlan, estimate
    from gans.commands.progress import busy
    from gans.compute import devices
    from gans.runs.cell import described
    from gans.runs.store import Store

    with busy("reading data"):
        plan = MatrixPlan(matrix, options.selection, options.machine, Store(), described)
    print(*plan.lines(), sep="\n")
    if cells := [planned.cell for planned in plan.untrained()]:
        devices.prepare(plan.device, options.machine.threads(plan.side))
        with busy("timing some steps of each model"):
            parallel = options.machine.parallel(len(cells), plan.side)
            print(estimate(cells, plan.device, parallel))
    return 0


def write_report(run: MatrixRun) -> None:
    from gans.runs.locks import acquire
    from gans.runs.store import Tracked

    with acquire(run.folder / ".report", float("inf")):  # another invocation of the matrix writes the same files
        path, best = render(Tracked(run.store, run.folder), run.experiment, run.machine.outputs)
        if run.parent:
            run.parent.params({"matrix": run.matrix.name, **best})
            run.parent.artifact(path.parent, schema.REPORT)
    print(f"report: {path}")


def render(tracked: Tracked, name: str, outputs: Path) -> tuple[Path, dict[str, str]]:
    """Write the page of an experiment and show its ranking; returns the page, and the best of each data set."""
    from reports.report import write
    from reports.results import load
    from reports.standing import show, winners

    results = load(tracked, name)
    path = write(results, name, outputs / REPORTS)
    show(results)
    return path, winners(results)


def rescore(options: Rescore = Rescore()) -> int:
    """Returns 0 only if every selected cell has its scores."""
    matrix = read(options)
    from benchmarks.executors.ray import joined
    from benchmarks.runner import ScoreRun
    from gans.runs.store import Store

    with joined(Machine(**vars(options.machine))) as machine:
        return carry_out(ScoreRun(matrix, options, machine, Store()))


def reading(runs: Path) -> Store:
    """The tracking store for a command that reads it; without a server's answer, runs' folders are read."""
    answers = True
    try:
        databases.check(tracking_uri())
    except databases.Away as error:
        if not any(run_paths(runs)):
            raise
        print(f"{error}; reading {runs} in its place", file=sys.stderr)
        answers = False
    from gans.runs.store import Store

    return Store(answers=answers)


def report(options: Report = Report()) -> int:
    """Write the page and its pictures; the last line of the output is the page's path."""
    from benchmarks.matrix import experiment_of

    name = experiment_of(options.matrix, options.selection)
    if databases.missing(uri := tracking_uri()) and not options.runs.is_dir():
        raise InputError(f"no benchmark in the tracking store {shown(uri)}; run `gans bench` first")
    store = reading(options.runs)
    from gans.runs.export import sync
    from gans.runs.store import Tracked

    sync(options.runs / name, store).say()
    print(render(Tracked(store, options.runs), name, options.outputs)[0])
    return 0


def compare(
    one: Annotated[str, option("an experiment in the tracking store: the name of a tracked matrix")],
    other: Annotated[str, option("the experiment to compare with it")],
    *,
    output: Annotated[Path, option("folder of the page", metavar="DIR")] = files.outputs() / REPORTS / "compare",
    runs: Runs = Path("runs"),
) -> int:
    store = reading(runs)
    from gans.runs.store import Tracked
    from reports import contents
    from reports.comparison import write

    print(write(Tracked(store, runs), (one, other), output))
    contents.update(output)
    return 0


def sensitivity(
    data: Annotated[str, option("a data set with labels", check=check_dataset)],
    *,
    count: Annotated[int, option("maximal number of images", least=FEWEST_DAMAGED, most=10**6)] = MOST_DAMAGED,
    device: Device = "auto",
) -> int:
    from benchmarks.sensitivity import write
    from gans.compute import devices
    from reports import contents

    page = write(data, devices.resolve(device), count)
    print(page)
    contents.update(page.parent)
    return 0
