"""`python -m benchmarks.speed`: what `make speed` runs."""

from __future__ import annotations

import sys

from benchmarks.speed.options import Speed
from gans.commands import options
from gans.errors import exit_code
from gans.places import SPEED


def main() -> int:
    return exit_code(lambda: run(options.parse(Speed, sys.argv[1:], "python -m benchmarks.speed")))


def run(command: Speed) -> int:
    """Measure, show the page and write it."""
    command.validate()
    from rich.console import Console  # seconds to import, as what follows, which wrong input does not wait for
    from rich.markdown import Markdown

    from benchmarks.executors.processes import preload
    from benchmarks.speed.measurement import Measurement
    from benchmarks.speed.page import slug

    measurement = Measurement(command)
    preload("benchmarks.speed.steps")
    page = measurement.run()
    name = slug(page.machine["device"] + (" quick" if command.quick else ""))
    path = page.write(name, command.outputs / SPEED)
    Console().print(Markdown(page.markdown()))
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
