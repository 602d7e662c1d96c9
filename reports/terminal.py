"""The ranking of a matrix in a terminal."""

from rich.console import Console
from rich.table import Table

from reports.results import Board, Results, selected_cells
from reports.sheet import visible
from reports.standing import Standing


def show(results: Results) -> None:
    """Print the ranking of every data set, best first, with the noise floors below."""
    console = Console(markup=False, emoji=False)
    results = selected_cells(results)
    for board in results.boards:
        console.print(leaderboard(results, board))
    missing = int((~results.cells["counted"]).sum())
    if missing:
        console.print(f"{missing} of {len(results.cells)} cells have no score; see the report for the reasons")


def leaderboard(results: Results, board: Board) -> Table:
    """The first table of a board's page, but for the times."""
    frame = Standing(results, board).table.map(visible).iloc[:, :4]
    table = Table(title=f"{board.title}: {board.metric}, lower is better", title_justify="left")
    for place, heading in enumerate(frame):
        table.add_column(str(heading), justify="right" if place else "left")
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*row, style="dim" if row[0].startswith("real: ") else None)
    return table
