"""`python -m benchmarks.sensitivity digits`: draw how each metric reacts to damaged images."""

from __future__ import annotations

import sys

from benchmarks.options import Sensitivity
from gans.commands import options
from gans.errors import exit_code


def main() -> int:
    """The command's entry point; returns its exit code."""
    return exit_code(lambda: run(options.parse(Sensitivity, sys.argv[1:], "python -m benchmarks.sensitivity")))


def run(asked: Sensitivity) -> int:
    """Measure, and write the page; the output is its path."""
    asked.validate()
    from benchmarks.reactions import write  # seconds to import, as what follows
    from gans.compute import devices

    print(write(asked.data, devices.resolve(asked.device), asked.count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
