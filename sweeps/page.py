"""`python -m sweeps.page`: write the pages of all tracked sweeps again, and the one that ranks swept models."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gans.commands import options
from gans.commands.options import Option
from gans.errors import exit_code
from gans.runs import databases
from gans.urls import shown, tracking_uri
from sweeps import ROOT


@dataclass(frozen=True)
class Pages:
    """Write the pages of all sweeps again, from nothing but what was tracked."""

    output: Annotated[Path, Option("where", metavar="DIR")] = ROOT
    runs: Annotated[Path, Option("folder of runs, for what the store has missed", metavar="DIR")] = Path("runs")


def main() -> int:
    """The command's entry point; returns its exit code."""
    return exit_code(lambda: run(options.parse(Pages, sys.argv[1:], "python -m sweeps.page")))


def run(asked: Pages) -> int:
    """Write them; the output is their paths."""
    uri = tracking_uri()
    answers = databases.check_reading(uri, asked.runs)
    from gans.runs.reader import Reader  # seconds to import, as what follows, which a wrong flag does not wait for
    from reports.studies import load_all
    from sweeps.pages import write, write_ranking

    store = Reader.of(uri, asked.runs, answers)
    for swept in load_all(store):
        print(write(store, swept, asked.output))
    print(write_ranking(asked.output) or f"no sweep in {shown(uri)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
