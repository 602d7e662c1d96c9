"""`python -m benchmarks.speed`: what `make speed` runs."""

from __future__ import annotations

import sys

from benchmarks.executors.processes import preload
from benchmarks.speed.options import Speed
from gans.commands import options
from gans.errors import exit_code
from gans.places import SPEED


def main() -> int:
    return exit_code(lambda: run(options.parse(Speed, sys.argv[1:], "python -m benchmarks.speed")))


def run(asked: Speed) -> int:
    """Measure, show the page and write it."""
    asked.validate()
    preload("benchmarks.speed.contenders")
    from rich.console import Console  # seconds to import, as what follows, which wrong input does not wait for
    from rich.markdown import Markdown
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from benchmarks.speed.measurement import Measurement
    from gans.compute import devices

    console = Console()
    columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting")

        def tell(what: str) -> None:
            progress.update(task, description=what)
            if not console.is_terminal:
                console.print(what)

        measurement = Measurement(asked, tell)
        page = measurement.run()
    name = devices.describe(measurement.device) + (" quick" if asked.quick else "")
    path = page.write(name, asked.outputs / SPEED)
    console.print(Markdown(page.markdown()))
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
