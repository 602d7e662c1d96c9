"""Options of `gans speed` and `gans gpu`. Slow imports are avoided here, so that errors come at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from gans import places
from gans.commands.options import Device, Outputs, flat, option

LEAST = 100  # images to score
Part = Literal["operations", "steps", "scoring"]
Model = Literal["gan", "dcgan", "dcgan-nobn", "sagan", "mdgan"]


@flat
@dataclass(frozen=True, kw_only=True)
class Speed:
    parts: Annotated[Sequence[Part] | None, option("only these parts")] = None
    models: Annotated[Sequence[Model] | None, option("only these models")] = None
    rounds: Annotated[int, option("repetitions", least=1, most=10_000)] = 5
    count: Annotated[int, option("images to score", least=LEAST, most=10**6)] = 2_000
    device: Device = "auto"
    outputs: Outputs = field(default_factory=places.outputs)


@flat
@dataclass(frozen=True, kw_only=True)
class Goals:
    minutes: Annotated[float | None, option("stop after these; the same call goes on", above=0, most=10**4)] = None
    parts: Annotated[Sequence[str] | None, option("only parts whose names begin so; on a CPU too")] = None
    device: Device = "auto"
    rounds: Annotated[int, option("repetitions", least=1, most=10_000)] = 5
    outputs: Outputs = field(default_factory=places.outputs)
