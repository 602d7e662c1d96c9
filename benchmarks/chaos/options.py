"""What `make chaos` asks for. Nothing heavy is imported here, so that errors come at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gans.commands.options import Option

PAGE = Path("benchmarks/chaos/README.md")


@dataclass(frozen=True)
class Chaos:
    """Kill and damage tiny runs at random, run them again, and count what that cost."""

    count: Annotated[
        int, Option("trials; those that the folder has are not tried again", least=1, most=100_000)
    ] = 100
    seed: Annotated[int, Option("of all that is random", least=0, most=2**31 - 1)] = 1
    folder: Annotated[Path, Option("where runs lie, and what was found so far", variable=False)] = Path("chaos")
    page: Annotated[Path, Option("file for what was found", metavar="FILE", variable=False)] = PAGE
