"""The report of a matrix: tables and pictures from the tracking store, in one folder of markdown and PNG."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from gans import schema
from gans.files import write_text
from gans.runs.reader import Source
from reports import ROOT, SHIPPED, figures, mdgan, published, tables
from reports.figures import Picture
from reports.results import Board, Plan, Results, load

PAGE = "README.md"
PICTURES: dict[str, Callable[[Results, Board], Picture | None]] = {
    "factors": mdgan.factors,
    "samples": figures.samples,
    "neighbours": figures.neighbours,
    "classes": figures.classes,
    "curves": figures.learning_curves,
    "losses": figures.losses,
    "pareto": figures.pareto,
}
SENSITIVITY = "sensitivity"  # folder of the pages of `benchmarks.sensitivity`, beside those of reports
PROFILE, FILM = "profile.png", "training-{}.gif"
LIMIT = 5_000_000  # bytes of a report, its page included
WORDS = 500_000  # of these, kept for the page
FILMS = 2_000_000  # for all films together
FRACTIONS = {0.5: "half of", 0.25: "a quarter of", 0.2: "a fifth of", 0.1: "a tenth of", 0.01: "a hundredth of"}


def write(store: Source, experiment: str, root: Path = ROOT) -> Path:
    """Write `root/<experiment>/README.md` and its pictures; the same store gives the same bytes.

    Args:
        store: where the runs were tracked; it is only read.
        experiment: the MLflow experiment: the matrix's name, with `-budget...` for a smaller budget.
        root: the folder of all reports.

    Returns:
        The path of the page.

    Raises:
        InputError: the store knows no benchmark of this name.
    """
    return render(load(store, experiment), root / experiment)


def render(results: Results, folder: Path) -> Path:
    """Write the page and its pictures into a folder of their own, and drop pictures of earlier reports."""
    names = slugs(results.boards)
    parts = [part(results, board, folder, names[board]) for board in results.boards]
    picture = figures.profile(results)
    profile = illustrate(picture, folder / PROFILE) if picture else None
    shown = [profile, *(one[kind] for one in parts for kind in (*PICTURES, "film"))]
    drawn = [folder / one["file"] for one in shown if one]
    figures.lighten(drawn, LIMIT - WORDS)
    for pattern in (PROFILE, FILM.format("*"), *(f"{kind}-*.png" for kind in PICTURES)):
        for old in set(folder.glob(pattern)) - set(drawn):
            old.unlink()
    text = page(results, parts, profile)
    write_text(folder / PAGE, text)
    return folder / PAGE


def slugs(boards: list[Board]) -> dict[Board, str]:
    """A name for the files of each board: its data set, and its metric where that is not enough."""
    often = Counter(board.dataset for board in boards)
    names = {b: b.dataset if often[b.dataset] == 1 else f"{b.dataset}-{b.metric}" for b in boards}
    return {board: re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") for board, name in names.items()}


def part(results: Results, board: Board, folder: Path, slug: str) -> dict[str, Any]:
    """What the page says of one board; its pictures are written on the way."""
    pictures = {kind: draw(results, board) for kind, draw in PICTURES.items()}
    shown = {
        kind: illustrate(picture, folder / f"{kind}-{slug}.png") if picture else None
        for kind, picture in pictures.items()
    }
    film = folder / FILM.format(slug)
    film_alt = figures.film(results, board, film, min(figures.FILM_LIMIT, FILMS // len(results.boards)))
    return {
        "board": board,
        "main": tables.main(results, board),
        "further": tables.further(results, board),
        "errors": tables.errors(results, board),
        "more": {f"{n:,}": table for n in results.counts if not (table := scored_on(results, board, n)).empty},
        "cost": tables.cost(results, board),
        "traffic": mdgan.traffic(results, board),
        "lost": mdgan.lost(results, board),
        "undecided": [tables.escape(model) for model in tables.undecided(results, board)],
        "floors": not results.floors_on(board).empty,
        "curve_images": tables.distinct(results.on(board), "score.curve_images"),
        "film": {"file": film.name, "alt": plain(film_alt)} if film_alt else None,
        "reactions": reactions(folder, board.dataset),
        "published": published.scores(results, board),
        "published_times": published.times(results, board),
        **shown,
    }


def reactions(folder: Path, dataset: str) -> str | None:
    """The link from a report to the page on how metrics react on a data set: beside it, else the one that ships.

    None if there is none, or if what ships is elsewhere: a report must not name this machine's folders.
    """
    page = f"{SENSITIVITY}/{dataset}.md"
    if (folder.parent / page).is_file():
        return f"../{page}"
    if not (SHIPPED / page).is_file() or not folder.absolute().is_relative_to(SHIPPED.parents[1]):
        return None
    return Path(os.path.relpath(SHIPPED / page, folder)).as_posix()


def scored_on(results: Results, board: Board, count: int) -> pd.DataFrame:
    """All metrics of a board on another number of images than the matrix's, its own metric among them."""
    further, own = results.at(count), schema.score(board.metric)
    cells = further.on(board)
    first = {own: f"{board.metric} ↓"} if own in cells and cells[own].notna().any() else {}
    return tables.scored(further, board, first | tables.metric_columns(cells, board))


def illustrate(picture: Picture, path: Path) -> dict[str, str]:
    """Write a picture; returns what the page needs to show it."""
    figures.save(picture.figure, path)
    return {"file": path.name, "alt": plain(picture.alt)}


def plain(alt: str) -> str:
    """Text that stands between the brackets of a picture."""
    return re.sub(r"[\[\]\s]+", " ", alt)


def page(results: Results, parts: list[dict[str, Any]], profile: dict[str, str] | None) -> str:
    """The markdown of the page."""
    plan = results.plan
    holes = tables.holes(results)
    loader = PackageLoader("reports")
    template = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    text = template.get_template("report.md.j2").render(
        plan=plan,
        budget=FRACTIONS.get(plan.budget, f"{plan.budget:g} times"),
        boards=parts,
        profile=profile,
        draws=f"{tables.DRAWS:,}",
        models=len(plan.models),
        cells=len(results.cells),
        finished=int(results.cells["counted"].sum()),
        protocol=tables.protocol(results),
        overview=tables.overview(results),
        holes=None if holes.empty else holes,
        unscored=unscored(results),
        environment=tables.environment(results),
        settings=tables.settings(results),
        whole=None if all(cell.selected for cell in plan.cells) else command("bench", plan),
        report=command("report", plan),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def unscored(results: Results) -> list[str]:
    """What finished cells lack, a line for each extractor and number of images, with the remedy."""
    return [
        f"Not scored by `{key.extractor}` at {key.count:,} images: {cells} {'cell' if cells == 1 else 'cells'}; "
        f"`{command('score', results.plan)} EXTRACTORS={key.extractor} COUNT={key.count}`"
        for key, cells in results.unscored.items()
    ]


def command(goal: str, plan: Plan) -> str:
    """The `make` command for a whole matrix."""
    return f"make {goal} MATRIX={plan.matrix}" + (f" BUDGET={plan.budget:g}" if plan.budget != 1 else "")
