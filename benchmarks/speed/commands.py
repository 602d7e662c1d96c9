"""`gans speed | gpu`. Slow imports follow the checks of options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from gans import files
from gans.commands.options import Device, Outputs, flat, option
from gans.errors import InputError

Rounds = Annotated[int, option("repetitions", least=1, most=10_000)]


@flat
@dataclass(frozen=True, kw_only=True)
class Speed:
    parts: Annotated[Sequence[Literal["operations", "steps", "scoring"]] | None, option("only these parts")] = None
    models: Annotated[
        Sequence[Literal["gan", "dcgan", "dcgan-nobn", "sagan", "mdgan"]] | None, option("only these models")
    ] = None
    rounds: Rounds = 5
    count: Annotated[int, option("images to score", least=100, most=10**6)] = 2_000
    device: Device = "auto"
    outputs: Outputs = field(default_factory=files.outputs)


def speed(options: Speed = Speed()) -> int:
    from rich.console import Console
    from rich.markdown import Markdown

    from benchmarks.executors.processes import preload
    from benchmarks.speed.measurement import measure
    from gans.compute import devices

    device = devices.resolve(options.device)
    preload("benchmarks.speed.steps")
    page = measure(options, device)
    Console().print(Markdown(page.read_text(encoding="utf-8")))
    print(f"written: {page}")
    return 0


@flat
@dataclass(frozen=True, kw_only=True)
class Goals:
    minutes: Annotated[float | None, option("stop after these; the same call goes on", above=0, most=10**4)] = None
    parts: Annotated[Sequence[str] | None, option("only parts whose names begin so; on a CPU too")] = None
    device: Device = "auto"
    rounds: Rounds = 5
    outputs: Outputs = field(default_factory=files.outputs)


def gpu(options: Goals = Goals()) -> int:
    """Measure a GPU's figures; 0 if all were measured. Without a GPU, an InputError unless parts are named."""
    from gans.compute import devices

    device = devices.resolve(options.device)
    if device.type != "cuda" and not options.parts:
        raise InputError("gans gpu needs a CUDA device, and this machine has none; gans speed measures a CPU")
    from benchmarks.executors.processes import preload
    from benchmarks.speed.goals import measure

    preload("benchmarks.speed.steps")
    return measure(options, device)
