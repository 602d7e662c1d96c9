"""`python -m benchmarks.score MATRIX`: what `make score` runs."""

from __future__ import annotations

import signal
import sys

from benchmarks.__main__ import NEEDED
from benchmarks.matrix import check_names, select_matrix, tell_presets
from benchmarks.nodes import joined
from benchmarks.options import Score
from gans.commands import options
from gans.errors import exit_code
from gans.runs import databases
from gans.urls import tracking_uri


def main() -> int:
    return exit_code(lambda: run(options.parse(Score, sys.argv[1:], "python -m benchmarks.score")))


def run(asked: Score) -> int:
    """Score the finished cells that are asked for, without training.

    Returns:
        The exit code: 0 only if every selected cell has its scores.
    """
    asked.validate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    outputs = asked.machine.outputs
    check_names(asked.matrix, asked.preset, asked.selection, outputs)
    databases.check_tracking(tracking_uri())
    matrix = select_matrix(asked.matrix, asked.preset, outputs, asked.selection)
    tell_presets(matrix, asked.selection)
    from benchmarks.scores import score  # seconds to import, which a wrong name does not wait for
    from gans.runs.tracking import Store

    with joined(asked.machine, tracking_uri(), NEEDED) as machine:
        outcome = score(matrix, asked.selection, machine, Store(), asked.extractors, asked.count)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
