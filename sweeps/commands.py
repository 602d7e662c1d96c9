"""`gans sweep | sweep-report`. Slow imports follow the checks of options."""

from pathlib import Path
from typing import Annotated

from benchmarks.commands import begin, reading
from benchmarks.options import Machine, Runs
from gans.commands.options import option
from gans.errors import shown
from gans.runs import databases
from sweeps import ROOT
from sweeps.options import Request, Search

NEEDED = ("sweeps.trial", "benchmarks.jobs", "torchvision.utils")  # by every job


def sweep(options: Search) -> int:
    options.machine.validate()
    options.request.validate()
    databases.check(options.request.storage, databases.OPTUNA)
    begin()
    from benchmarks.executors.processes import preload
    from benchmarks.executors.ray import joined

    if options.machine.engine == "local":
        preload(*NEEDED)
    with joined(Machine(**vars(options.machine)), options.request.storage) as machine:
        return search(options.request, machine)


def search(request: Request, machine: Machine) -> int:
    """As `sweep`, on a machine that has joined its cluster."""
    import optuna

    from gans.runs.export import exporting
    from gans.runs.store import Store
    from sweeps.runner import SweepRun

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run = SweepRun(request, machine, Store())
    if len(request.objectives) > 1:
        print("two objectives: no trial is pruned, since Optuna prunes by one objective only")
    with exporting(run.folder, run.store):
        return run.run()


def sweep_report(
    *, output: Annotated[Path, option("folder of the pages", metavar="DIR")] = ROOT, runs: Runs = Path("runs")
) -> int:
    store = reading(runs)
    from gans.runs.store import Tracked
    from reports.studies import load_all
    from sweeps.pages import write, write_ranking

    for swept in load_all(Tracked(store, runs)):
        print(write(swept, output))
    print(write_ranking(output) or f"no sweep in {shown(store.uri)}")
    return 0
