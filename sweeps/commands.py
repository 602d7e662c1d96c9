"""`gans sweep | sweep-report`. Slow imports follow the checks of options."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from benchmarks.options import Machine
from gans.commands.options import flat, option
from gans.errors import shown
from gans.places import tracking_uri
from gans.runs import databases
from sweeps import ROOT
from sweeps.options import Request, Search

NEEDED = ("sweeps.trial", "benchmarks.jobs", "torchvision.utils")  # by every job


def sweep(options: Search) -> int:
    """Search, retrain the winners, report."""
    options.machine.validate()
    options.request.validate()
    databases.check(options.request.storage, databases.OPTUNA)
    databases.check(tracking_uri())
    from benchmarks.executors.processes import preload
    from benchmarks.executors.ray import joined

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM acts as Ctrl-C
    if options.machine.engine == "local":
        preload(*NEEDED)
    with joined(Machine(**vars(options.machine)), options.request.storage) as machine:
        return search(options.request, machine)


def search(request: Request, machine: Machine) -> int:
    """As `sweep`, on a machine that has joined its cluster."""
    import optuna

    from gans.runs.export import sync
    from gans.runs.store import Store
    from sweeps.runner import SweepRun

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run = SweepRun(request, machine, Store())
    if len(request.objectives) > 1:
        print("two objectives: no trial is pruned, since Optuna prunes by one objective only")
    sync(run.folder, run.store).say(machine.remedy)
    code = run.run()
    sync(run.folder, run.store).say_left(machine.remedy)
    return code


@flat
@dataclass(frozen=True, kw_only=True)
class Pages:
    output: Annotated[Path, option("folder of the pages", metavar="DIR")] = ROOT
    runs: Annotated[Path, option("folder of runs that the store may lack", metavar="DIR")] = Path("runs")


def sweep_report(options: Pages = Pages()) -> int:
    """Write the pages; the output is their paths."""
    uri = tracking_uri()
    answers = databases.check_reading(uri, options.runs)
    from gans.runs.store import Store
    from reports.studies import load_all
    from sweeps.pages import write, write_ranking

    store = Store(uri, answers).with_folders(options.runs)
    for swept in load_all(store):
        print(write(swept, options.output))
    print(write_ranking(options.output) or f"no sweep in {shown(uri)}")
    return 0
