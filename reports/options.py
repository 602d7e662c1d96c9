"""What `make report` asks for. Nothing heavy is imported here, so that errors come at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from benchmarks.options import MATRIX, MatrixName, Preset, Selection
from gans.commands.options import Only, Option
from reports import ROOT


@dataclass(frozen=True)
class Report:
    """Write the report of a matrix again from the tracking store, and show its ranking."""

    matrix: MatrixName = MATRIX
    selection: Annotated[Selection, Only(("datasets", "budget", "precision"))] = field(default_factory=Selection)
    preset: Preset = ""
    output: Annotated[Path, Option("folder of all reports", metavar="DIR", variable=False)] = ROOT
