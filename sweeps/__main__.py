"""`python -m sweeps MODEL`: what `make sweep` runs."""

from __future__ import annotations

import os
import signal
import sys

from benchmarks.executors.processes import preload
from benchmarks.nodes import joined
from benchmarks.options import Machine
from gans.commands import options
from gans.errors import exit_code
from gans.runs import databases
from gans.urls import go_on_without_secrets, tracking_uri
from sweeps.options import SECRETS, Request, Search

NEEDED = ("sweeps.trial", "benchmarks.jobs", "torchvision.utils")  # by every job


def main() -> int:
    return exit_code(lambda: run(options.parse(Search, arguments(), "python -m sweeps")))


def arguments() -> list[str]:
    """The command line, under what the environment says."""
    given = [f"{flag}={os.environ[name]}" for flag, name in SECRETS.items() if os.environ.get(name)]
    return [*given, *sys.argv[1:]]


def run(asked: Search) -> int:
    """Search, retrain the winners, report; returns the exit code."""
    asked.validate()
    databases.check_storage(asked.request.storage)
    databases.check_tracking(tracking_uri())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    if asked.machine.engine == "local":
        preload(*NEEDED)
    with joined(asked.machine, tracking_uri(), NEEDED, asked.request.storage) as machine:
        return search(asked.request, machine)


def search(request: Request, machine: Machine) -> int:
    """As `run`, on a machine that has joined its cluster."""
    import optuna  # seconds to import, as what follows, which wrong input does not wait for

    from gans.runs.sync import say
    from gans.runs.tracking import Store
    from sweeps.runner import SweepRun

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep = SweepRun(request, machine, Store())
    if len(request.objectives) > 1:
        print("two objectives: every trial runs to its end, since Optuna prunes by one objective only")
    say(sweep.catch_up(), machine.remedy)
    code = sweep.run()
    say(sweep.catch_up(), machine.remedy)
    return code


if __name__ == "__main__":
    go_on_without_secrets("sweeps", SECRETS)
    sys.exit(main())
