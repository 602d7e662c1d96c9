"""`python -m benchmarks.speed.gpu`: what `make gpu` runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.speed.options import Goals
from gans.commands import options
from gans.errors import InputError, exit_code
from gans.places import SPEED

if TYPE_CHECKING:
    import torch

    from benchmarks.speed.checks import Tools

    Equip = Callable[[torch.device, int], Tools]


def main() -> int:
    return exit_code(lambda: run(options.parse(Goals, sys.argv[1:], "python -m benchmarks.speed.gpu")))


def run(asked: Goals) -> int:
    """Take all checks on a GPU; 0 if every figure was measured.

    Raises:
        InputError: there is no GPU.
    """
    asked.validate()
    from gans.compute import devices  # seconds to import, which wrong input does not wait for

    device = devices.resolve(asked.device)
    if device.type != "cuda":
        raise InputError("make gpu needs a CUDA device, and here is none; make speed times a CPU")
    from benchmarks.executors.processes import preload
    from benchmarks.speed.checks import Tools

    preload("benchmarks.speed.contenders")
    return report(asked, device, Tools.of(device, asked.rounds))


def report(asked: Goals, device: torch.device, tools: Tools) -> int:
    """Measure with these tools, show and write the page; the command's exit code."""
    import torch
    from rich.console import Console
    from rich.markdown import Markdown

    from benchmarks.speed.checks import checks
    from benchmarks.speed.goals import Sheet, take_all
    from gans import schema
    from gans.compute import devices
    from gans.runs.provenance import provenance

    code = provenance()
    changed = " (changed)" if code[schema.DIRTY] == "true" else ""
    machine = {
        "device": devices.describe(device),
        "commit": code[schema.COMMIT] + changed,
        "torch": torch.__version__,
        "command": options.command("gpu", asked),
    }
    sheet = Sheet(machine, take_all(checks(tools), print))
    path = sheet.write(asked.outputs / SPEED)
    Console().print(Markdown(sheet.markdown()))
    print(f"written: {path}")
    return sheet.exit_code


if __name__ == "__main__":
    sys.exit(main())
