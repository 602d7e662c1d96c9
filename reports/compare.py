"""`gans compare digits digits-bf16`: compares two tracked matrices."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from gans.commands.options import flat, option
from gans.runs import databases
from gans.urls import tracking_uri
from reports import ROOT as REPORTS

ROOT = REPORTS / "compare"


@flat
@dataclass(frozen=True)
class Compare:
    one: Annotated[str, option("an experiment in the tracking store: the name of a tracked matrix")]
    other: Annotated[str, option("the experiment to compare with it")]
    _: KW_ONLY
    output: Annotated[Path, option("folder of the page", metavar="DIR")] = ROOT
    runs: Annotated[Path, option("folder of runs that the store may lack", metavar="DIR")] = Path("runs")


def compare(options: Compare) -> int:
    """Write the page; the output is its path."""
    uri = tracking_uri()
    answers = databases.check_reading(uri, options.runs)
    from gans.runs.store import Store
    from reports.comparison import write

    print(write(Store(uri, answers).with_folders(options.runs), (options.one, options.other), options.output))
    return 0
