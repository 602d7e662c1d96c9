"""Options of `make chaos`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from gans import places
from gans.commands.options import Option
from gans.commands.outputs import Outputs

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Chaos:
    """Kill and damage tiny runs at random, run them again, and count what that cost."""

    count: Annotated[int, Option("trials, with those that were tried before", least=1, most=100_000)] = 100
    seed: Annotated[int, Option("of all that is random", least=0, most=2**31 - 1)] = 1
    page: Annotated[
        Path | None,
        Option("file for what was found; if not given, beside it", metavar="FILE", variable=False, repeated=False),
    ] = None
    code: Annotated[Path, Option("clone whose code is tried", metavar="DIR", variable=False, repeated=False)] = (
        ROOT
    )
    outputs: Outputs = field(default_factory=places.outputs)

    @property
    def folder(self) -> Path:
        """Where runs are, and what was found so far, by seed."""
        return self.outputs / places.CHAOS / f"seed-{self.seed}"
