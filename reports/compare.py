"""`python -m reports.compare digits digits-bf16`: set two tracked matrices side by side."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gans.commands import options
from gans.commands.options import Option
from gans.errors import exit_code
from gans.runs import databases
from gans.urls import tracking_uri
from reports import ROOT as REPORTS

ROOT = REPORTS / "compare"


@dataclass(frozen=True)
class Compare:
    """Set two tracked matrices side by side: scores, differences, what differs."""

    one: Annotated[str, Option("an experiment of the tracking store: a matrix as it was run", positional=True)]
    other: Annotated[str, Option("the one that is compared with it", positional=True)]
    output: Annotated[Path, Option("where", metavar="DIR")] = ROOT
    runs: Annotated[Path, Option("folder of runs, for what the store has missed", metavar="DIR")] = Path("runs")


def main() -> int:
    """The command's entry point; returns its exit code."""
    return exit_code(lambda: run(options.parse(Compare, sys.argv[1:], "python -m reports.compare")))


def run(asked: Compare) -> int:
    """Write the page; the output is its path."""
    uri = tracking_uri()
    answers = databases.check_reading(uri, asked.runs)
    from gans.runs.reader import Reader  # seconds to import, as what follows, which a wrong flag does not wait for
    from reports.comparison import write

    print(write(Reader.of(uri, asked.runs, answers), (asked.one, asked.other), asked.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
