"""Options of `make speed` and `make gpu`. Nothing heavy is imported here, so that errors come at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from gans import places
from gans.commands import options
from gans.commands.options import Option
from gans.commands.outputs import Outputs
from gans.errors import unknown

LEAST = 100  # images to score
PARTS = ("steps", "start-up", "scoring")


@dataclass(frozen=True)
class Speed:
    """Time training beside its arithmetic and beside tutorials, start-up, and scoring."""

    parts: Annotated[Sequence[str] | None, Option(f"only some of {', '.join(PARTS)}")] = None
    models: Annotated[Sequence[str] | None, Option("only these")] = None
    rounds: Annotated[
        int | None, Option("turns of each contender; if not given 5, on a GPU 3", least=1, most=10_000)
    ] = None
    seconds: Annotated[
        float | None,
        # a shell has a variable of this name
        Option(
            "length of a turn, at least one step; if not given 1, on a GPU 0.3",
            variable=False,
            above=0,
            most=3_600,
        ),
    ] = None
    count: Annotated[int, Option("images to score", least=LEAST, most=10**6)] = 2_000
    device: Annotated[str, Option("auto, cpu, cuda or cuda:1")] = "auto"
    precision: Annotated[
        Literal["float32", "tf32", "bf16"] | None,
        Option("of start-up, on a GPU of steps too; if not given, the default; float32 leaves bf16 out"),
    ] = None
    threads: Annotated[int | None, Option("CPU threads; all cores if not given", least=1, most=1_024)] = None
    graph: Annotated[bool | None, Option("record our steps as CUDA graphs; if not given, on CUDA")] = None
    quick: Annotated[bool, Option("dcgan's steps and start-up only, in under a minute")] = False
    outputs: Outputs = field(default_factory=places.outputs)

    def validate(self) -> None:
        """Refuse impossible values before anything is loaded."""
        options.check(self)
        for part in self.parts or ():
            if part not in PARTS:
                raise unknown("part", part, PARTS)


@dataclass(frozen=True)
class Goals:
    """Run the GPU tests and measure the figures to reach on a GPU, beside their goals."""

    device: Annotated[str, Option("auto, cuda or cuda:1")] = "auto"
    rounds: Annotated[int, Option("turns of each contender", least=1, most=10_000)] = 5
    outputs: Outputs = field(default_factory=places.outputs)

    def validate(self) -> None:
        """Refuse impossible values before anything is loaded."""
        options.check(self)
