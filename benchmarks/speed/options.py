"""What `make speed` asks for. Nothing heavy is imported here, so that errors come at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from gans import places
from gans.commands.options import Option
from gans.commands.outputs import Outputs
from gans.errors import InputError


@dataclass(frozen=True)
class Speed:
    """Time training beside its arithmetic and beside tutorials, cells, and scoring."""

    models: Annotated[Sequence[str] | None, Option("only these")] = None
    rounds: Annotated[int | None, Option("turns of each contender; if not given 5, on a GPU 3")] = None
    seconds: Annotated[
        float | None,
        # a shell has a variable of this name
        Option("length of a turn, at least one step; if not given 1, on a GPU 0.3", variable=False),
    ] = None
    device: Annotated[str, Option("auto, cpu, cuda or cuda:1")] = "auto"
    precision: Annotated[
        Literal["float32", "tf32", "bf16"] | None,
        Option("of whole cells, on a GPU of steps too; if not given, their default; float32 leaves bf16 out"),
    ] = None
    threads: Annotated[int | None, Option("CPU threads; all cores if not given")] = None
    graph: Annotated[bool | None, Option("record our steps as CUDA graphs; if not given, on CUDA")] = None
    quick: Annotated[bool, Option("dcgan's steps and start-up only, in under a minute")] = False
    outputs: Outputs = field(default_factory=places.outputs)

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        for key, value in {"ROUNDS": self.rounds, "THREADS": self.threads}.items():
            if value is not None and value < 1:
                raise InputError(f"{key}={value} must be at least 1")


@dataclass(frozen=True)
class Goals:
    """Run the GPU tests and measure the figures to reach on a GPU, beside their goals."""

    device: Annotated[str, Option("auto, cuda or cuda:1")] = "auto"
    rounds: Annotated[int, Option("turns of each contender")] = 5
    outputs: Outputs = field(default_factory=places.outputs)

    def validate(self) -> None:
        """Refuse what cannot be before anything is loaded."""
        if self.rounds < 1:
            raise InputError(f"ROUNDS={self.rounds} must be at least 1")
