"""Options of `make chaos`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gans import places
from gans.commands.options import ONCE, Outputs, flat, option

ROOT = Path(__file__).resolve().parents[2]


@flat
@dataclass(frozen=True, kw_only=True)
class Chaos:
    count: Annotated[int, option("trials, with those that were tried before", least=1, most=100_000)] = 100
    seed: Annotated[int, option("of all that is random", least=0, most=2**31 - 1)] = 1
    page: Annotated[
        Path | None,
        option("file for what was found; if not given, beside it", metavar="FILE"),
        ONCE,
    ] = None
    code: Annotated[Path, option("clone whose code is tried", metavar="DIR"), ONCE] = ROOT
    outputs: Outputs = field(default_factory=places.outputs)

    @property
    def folder(self) -> Path:
        """Where runs are, and what was found so far, by seed."""
        return self.outputs / places.CHAOS / f"seed-{self.seed}"
