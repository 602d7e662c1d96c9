"""The report of a matrix: tables and pictures from the tracking store, in one folder of markdown and PNG."""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from gans.errors import printable
from gans.files import free, write_text
from gans.pictures import film as films
from gans.pictures.grids import decorating
from gans.registry import label
from reports import PAGE, ROOT, WHOLE, by_class, contents, figures, folder_of, leaders, mdgan, published, tables
from reports.figures import Picture
from reports.html import standalone
from reports.numbers import images
from reports.results import Board, Results, left_out, selected_cells
from reports.sheet import FOLDER, Sheet, markdown
from reports.standing import Standing, pair_table
from reports.viewer import viewer

RANKED: dict[str, Callable[[Standing], Picture | None]] = {"leaders": leaders.leaders, "pairs": leaders.matrix}
PICTURES: dict[str, Callable[[Results, Board], Picture | None]] = {
    "factors": mdgan.factors,
    "samples": figures.samples,
    "neighbours": figures.neighbours,
    "classes": figures.classes,
    "each_class": figures.each_class,
    "by_class": by_class.picture,
    "curves": figures.learning_curves,
    "losses": figures.losses,
    "pareto": figures.pareto,
}
FILM = "training-{}.gif"
FILMS = 2_000_000  # bytes of all films together
FRACTIONS = {0.5: "half of", 0.25: "a quarter of", 0.2: "a fifth of", 0.1: "a tenth of", 0.01: "a hundredth of"}


def write(results: Results, experiment: str, root: Path = ROOT) -> Path:
    """Write the page of an experiment below the folder of all reports, and their index; returns the page.

    The same store gives the same bytes.
    """
    page = render(results, folder_of(experiment, root))
    contents.write(root)
    return page


def render(everything: Results, folder: Path) -> Path:
    """Write the page into a folder of its own, with pictures and tables; drop what earlier ones left."""
    results = selected_cells(everything)
    names = slugs(results.boards)
    parts = [part(results, board, folder, names[board]) for board in results.boards]
    kept = {folder / shown["file"] for one in parts for shown in one["pictures"].values() if shown}
    for pattern in (FILM.format("*"), *(f"{kind}-*.png" for kind in (*RANKED, *PICTURES))):
        for old in set(folder.glob(pattern)) - kept:
            old.unlink()
    plan, holes, look_through = results.plan, tables.holes(results), ""
    with decorating(folder / WHOLE):
        look_through = viewer(results)
    page = publish(
        folder,
        "reports",
        "report.md.j2",
        look_through,
        plan=plan,
        budget=FRACTIONS.get(plan.budget, f"{plan.budget:g} times"),
        boards=parts,
        draws=f"{tables.DRAWS:,}",
        cells=len(results.cells),
        finished=int(results.cells["counted"].sum()),
        left_out=left_out(everything),
        protocol=tables.protocol(results),
        overview=tables.overview(results),
        holes=None if holes.empty else holes,
        unscored=unscored(results),
        environment=tables.environment(results),
        settings=tables.settings(results),
    )
    write_text(folder / FOLDER / "cells.csv", tables.cells(results).to_csv(index=False))
    return page


def slugs(boards: list[Board]) -> dict[Board, str]:
    """A name for the files of each board: its data set, and its metric where that is not enough."""
    often = Counter(board.dataset for board in boards)
    names = {b: label(b.dataset) + (f"-{b.metric}" if often[b.dataset] > 1 else "") for b in boards}
    return {board: re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-") for board, name in names.items()}


def part(results: Results, board: Board, folder: Path, slug: str) -> dict[str, Any]:
    """What the page says of one board; its pictures are written on the way."""
    standing = Standing(results, board)
    drawing = {kind: partial(draw, standing) for kind, draw in RANKED.items()}
    drawing |= {kind: partial(draw, results, board) for kind, draw in PICTURES.items()}
    pictures = {kind: illustrate(draw, folder / f"{kind}-{slug}.png") for kind, draw in drawing.items()}
    film, film_alt = folder / FILM.format(slug), None
    with decorating(film):
        film_alt = figures.film(results, board, film, min(films.LIMIT, FILMS // len(results.boards)))
    learned = tables.learned(results, board)
    pictures["film"] = {"file": film.name, "alt": tables.escape(film_alt)} if film_alt else None
    return {
        "board": board,
        "slug": slug,
        "standing": standing,
        "pair_table": pair_table(standing.pairs),
        "learned": learned,
        "redrawn": len(learned.columns) > 3,
        "further": tables.further(results, board),
        "errors": tables.errors(results, board),
        "class_tables": by_class.tables(by_class.Classes.of(results, board)),
        "more": {f"{n:,}": tables.further(results.at(n), board, own=True) for n in results.counts},
        "time": tables.time(results, board),
        "further_cost": tables.further_cost(results, board),
        "traffic": mdgan.traffic(results, board),
        "lost": mdgan.lost(results, board),
        "floors": not results.floors_on(board).empty,
        "floor_lines": figures.floor_values(results, board),
        "many": len(standing.ranks) > figures.FEW,
        "grey": len(figures.curved(results, board)[1]) > figures.FEW,
        "curve_images": tables.distinct(results.on(board), "score.curve_images"),
        "published": published.scores(results, board),
        "pictures": pictures,
    }


def illustrate(draw: Callable[[], Picture | None], path: Path) -> dict[str, str] | None:
    """Write a picture; returns what the page needs to show it, None if there is nothing to show."""
    with decorating(path):
        picture = draw()
        if picture:
            figures.save(picture.figure, path)
            return {"file": path.name, "alt": tables.escape(picture.alt)}
    return None


def environment(package: str) -> Environment:
    """The templates of a package; a name is written `{{ name | text }}`, or `{{ name | code }}`."""
    loader = PackageLoader(package)
    made = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters |= {"text": tables.escape, "code": tables.code, "printable": printable, "markdown": markdown}
    return made


def write_new(root: Path, name: str, template: str, figure: Figure, **values: Any) -> Path:
    """Write a page under a new name, with a picture beside it; returns the page."""
    page, picture = free(root, name, ".md", ".png")
    figures.save(figure, picture)
    text = environment("reports").get_template(template).render(picture=quote(picture.name), **values)
    write_text(page, text)
    return page


def publish(folder: Path, package: str, template: str, look_through: str = "", **values: Any) -> Path:
    """Write a page from a template of a package, its tables, and all as one HTML file; returns the page.

    `look_through` is the viewer of that file.
    """
    sheet, page = Sheet(), folder / PAGE
    made = environment(package)
    made.globals |= {"table": sheet.table, "thousands": lambda kimg: images(1000 * kimg)}
    text = made.get_template(template).render(**values)
    write_text(page, re.sub(r"\n{3,}", "\n\n", text))
    sheet.write(folder)
    write_text(folder / WHOLE, standalone(page, look_through))
    return page


def unscored(results: Results) -> list[str]:
    """What finished cells lack, a line for each extractor and number of images, with the remedy."""
    old = results.plan.score.startswith("make ")  # of a version before 0.4.0
    options = "EXTRACTORS={} COUNT={}" if old else "--extractors {} --count {}"
    return [
        f"Not scored by {tables.code(key.extractor)} at {key.count:,} images: {cells} "
        f"{'cell' if cells == 1 else 'cells'}; "
        + tables.code(f"{results.plan.score} {options.format(key.extractor, key.count)}")
        for key, cells in results.unscored.items()
    ]
