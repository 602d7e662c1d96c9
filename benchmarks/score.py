"""`python -m benchmarks.score MATRIX`: what `make score` runs."""

from __future__ import annotations

import signal
import sys

from benchmarks.matrix import select_matrix, tell_presets
from benchmarks.options import Score
from gans.commands import options
from gans.errors import exit_code


def main() -> int:
    return exit_code(lambda: run(options.parse(Score, sys.argv[1:], "python -m benchmarks.score")))


def run(asked: Score) -> int:
    """Score the finished cells that are asked for, without training.

    Returns:
        The exit code: 0 only if every selected cell has its scores.
    """
    asked.validate()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill is a Ctrl-C
    matrix = select_matrix(asked.matrix, asked.preset, asked.machine.outputs)
    matrix.check_names(asked.selection)
    tell_presets(matrix, asked.selection)
    from benchmarks.scores import score  # seconds to import, which a wrong name does not wait for
    from gans.runs.tracking import Store

    outcome = score(matrix, asked.selection, asked.machine, Store(), asked.extractors, asked.count)
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())
