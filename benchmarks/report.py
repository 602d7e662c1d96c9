"""`python -m benchmarks.report MATRIX`: write the report of a matrix again, and show its ranking."""

from __future__ import annotations

import sys

from benchmarks.matrix import experiment_of
from benchmarks.options import Report
from gans.commands import options
from gans.errors import InputError, exit_code
from gans.places import REPORTS
from gans.runs import databases
from gans.urls import shown, tracking_uri
from reports import folder_of


def main() -> int:
    return exit_code(lambda: run(options.parse(Report, sys.argv[1:], "python -m benchmarks.report")))


def run(asked: Report) -> int:
    """Write the page and its pictures; the last line of the output is the page's path."""
    asked.validate()
    name = experiment_of(asked.matrix, asked.selection)
    uri = tracking_uri()
    answers = databases.check_reading(uri, asked.runs)
    if databases.missing(uri) and not asked.runs.is_dir():
        raise InputError(f"no benchmark in the tracking store {shown(uri)}; run `make bench` first")
    from gans.runs.reader import Reader
    from gans.runs.sync import say, sync  # seconds to import, which a wrong flag does not wait for
    from reports.report import render
    from reports.results import load
    from reports.terminal import show_results

    reader = Reader.of(uri, asked.runs, answers)
    say(sync(asked.runs, reader.store))
    results = load(reader, name)
    path = render(results, folder_of(name, asked.outputs / REPORTS))
    show_results(results)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
