"""`python -m benchmarks.speed.scoring`: time the scoring of images beside torch-fidelity on files."""

from __future__ import annotations

import os
import sys

from benchmarks.speed.options import Scoring
from gans.commands import options
from gans.errors import exit_code


def main() -> int:
    """The command's entry point; returns its exit code."""
    return exit_code(lambda: run(options.parse(Scoring, sys.argv[1:], "python -m benchmarks.speed.scoring")))


def run(asked: Scoring) -> int:
    """Measure; the output is a table, and what was measured."""
    asked.validate()
    from benchmarks.speed.assessing import rows  # seconds to import, as what follows
    from benchmarks.speed.page import Page
    from gans.compute import devices

    device = devices.resolve(asked.device)
    devices.prepare(device, devices.cores())
    load = os.getloadavg()[0]
    page = Page({}, scoring=rows(device, asked.count, asked.rounds))
    about = (
        f"{asked.count:,} images of 3 x 32 x 32, {asked.rounds} rounds (median, smallest and largest ratio), "
        f"{devices.describe(device)}, {devices.cores()} cores, load before {load:.1f}."
    )
    print(page.scored(), about, sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
