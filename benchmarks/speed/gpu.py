"""`python -m benchmarks.speed.gpu`: what `make gpu` runs."""

from __future__ import annotations

import sys

from benchmarks.speed.options import Goals
from gans.commands import options
from gans.errors import InputError, exit_code


def main() -> int:
    return exit_code(lambda: run(options.parse(Goals, sys.argv[1:], "python -m benchmarks.speed.gpu")))


def run(command: Goals) -> int:
    """Take all checks on a GPU; 0 if every figure was measured.

    Raises:
        InputError: there is no GPU.
    """
    command.validate()
    from gans.compute import devices  # seconds to import, as what follows

    device = devices.resolve(command.device)
    if device.type != "cuda":
        raise InputError("make gpu needs a CUDA device, and here is none; make speed times a CPU")
    from benchmarks.executors.processes import preload
    from benchmarks.speed.goals import measure

    preload("benchmarks.speed.steps")
    return measure(command, device)


if __name__ == "__main__":
    sys.exit(main())
