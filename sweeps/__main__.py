"""`python -m sweeps MODEL`: what `make sweep` runs."""

from __future__ import annotations

import signal
import sys

from benchmarks.engine import preload
from gans.commands import options
from gans.errors import exit_code
from sweeps.options import Search


def main() -> int:
    return exit_code(lambda: run(options.parse(Search, sys.argv[1:], "python -m sweeps")))


def run(asked: Search) -> int:
    """Search, retrain the winners, report; returns the exit code."""
    asked.validate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    preload("sweeps.trial", "benchmarks.jobs", "sklearn.datasets", "torchvision.utils")
    import optuna  # seconds to import, as what follows, which wrong input does not wait for

    from gans.runs.sync import say
    from gans.runs.tracking import Store
    from sweeps.runner import SweepRun

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweep = SweepRun(asked.request, asked.machine, Store())
    if len(asked.request.objectives) > 1:
        print("two objectives: every trial runs to its end, since Optuna prunes by one objective only")
    say(sweep.catch_up())
    code = sweep.run()
    say(sweep.catch_up())
    return code


if __name__ == "__main__":
    sys.exit(main())
