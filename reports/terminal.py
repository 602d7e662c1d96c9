"""The ranking of a matrix in a terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table

from gans.runs.store import Source
from reports import tables
from reports.numbers import number
from reports.results import Board, Results, load
from reports.selection import asked_for


def show(store: Source, experiment: str) -> None:
    """Print the ranking of every data set, best first, with the noise floors below.

    Args:
        store: where the runs were tracked; it is only read.
        experiment: the MLflow experiment, as in `reports.report.write`.

    Raises:
        InputError: the store knows no benchmark of this name.
    """
    show_results(load(store, experiment))


def show_results(results: Results) -> None:
    """`show` for results that are loaded already."""
    console = Console(markup=False, emoji=False)
    results = asked_for(results)
    for board in results.boards:
        console.print(leaderboard(results, board))
    missing = int((~results.cells["counted"]).sum())
    if missing:
        console.print(f"{missing} of {len(results.cells)} cells have no score; the report says why")


def leaderboard(results: Results, board: Board) -> Table:
    """The ranking of one board."""
    table = Table(title=f"{board.title}: {board.metric}, lower is better", title_justify="left")
    table.add_column("model")
    table.add_column("mean, 95 % interval", justify="right")
    table.add_column("seeds", justify="right")
    for rank in tables.ranking(results, board):
        style = "bold" if rank.best else None
        table.add_row(rank.model, str(rank.estimate), tables.seeds(rank.estimate.n, rank.cells), style=style)
    for _, floor in results.floors_on(board).iterrows():
        score = number(floor.get(board.metric, math.nan))
        table.add_row(f"real: {floor['comparison']}", score, style="dim")
    return table
