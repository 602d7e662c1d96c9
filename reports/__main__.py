"""`python -m reports MATRIX`: write the report of a matrix again, and show its ranking."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from gans.errors import Parser, exit_code
from gans.runs.tracking import Store
from reports.report import ROOT, render
from reports.results import load
from reports.terminal import show_results


def experiment(matrix: str, budget: float) -> str:
    """The MLflow experiment of a matrix at a budget; a matrix file stands for its name."""
    name = Path(matrix).stem if matrix.endswith(".toml") else matrix
    return name if budget == 1 else f"{name}-budget{budget:g}"


def _run(arguments: Sequence[str]) -> int:
    parser = Parser(prog="python -m reports", description=__doc__)
    parser.add_argument("matrix", metavar="MATRIX", help="the matrix's name")
    parser.add_argument("--budget", type=float, default=1.0, help="the budget it ran with (default: 1)")
    parser.add_argument("--output", type=Path, default=ROOT, metavar="DIR", help=f"where (default: {ROOT})")
    options = parser.parse_args(arguments)
    name = experiment(options.matrix, options.budget)
    results = load(Store(), name)
    path = render(results, options.output / name)
    show_results(results)
    print(path)
    return 0


def main() -> int:
    return exit_code(lambda: _run(sys.argv[1:]))


if __name__ == "__main__":
    raise SystemExit(main())
