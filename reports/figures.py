"""The pictures of a report. The same store gives the same bytes: no dates, no paths, fixed styles."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from gans import schema
from gans.pictures.figures import save_figure
from gans.pictures.film import Track, grids, save_film
from gans.pictures.grids import mosaic, save_picture, tiles
from gans.pictures.lettering import INK, PAPER, shortened
from reports.numbers import images, number
from reports.results import CLOCK, Board, Results
from reports.statistics import Estimate
from reports.tables import ranking

Dash = str | tuple[int, tuple[int, ...]]
Row = tuple[str, Sequence[tuple[str, Image.Image | None]]]  # its name, and its pictures with their titles

# Okabe & Ito's colours with dashes and markers, so that lines also differ in grey
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
FEW = len(COLOURS)  # models that can have different colours
FLOOR_DASHES = {"train half vs train half": (0, (1, 1)), "train vs test": (0, (6, 2, 1, 2))}
DPI = 130

# pixels of pictures of images: width of a panel, between panels, above them, left of them, height of letters
PANEL, GAP, TITLE, LABEL, LETTERS = 400, 16, 34, 210, 16
STRIPS = 20  # rows of images in the sample picture, of all models together
WHOLE = 640  # pixels: greatest width of a picture that a run has of itself


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure or an image, with its alt text."""

    figure: Figure | Image.Image
    alt: str


def save(figure: Figure | Image.Image, path: Path) -> None:
    write = save_figure if isinstance(figure, Figure) else save_picture
    write(figure, path)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Style:
    """How a model is drawn, the same in every panel."""

    color: str
    linestyle: Dash
    marker: str


def styles(models: Sequence[str]) -> dict[str, Style]:
    """One style per model, in the order of the matrix."""
    colours, dashes, markers = cycle(COLOURS), cycle(DASHES), cycle(MARKERS)
    return {model: Style(next(colours), next(dashes), next(markers)) for model in models}


# --- score curves


def curved(results: Results, board: Board) -> tuple[pd.DataFrame, list[str]]:
    """The scores during training that have a place on a logarithmic axis, and their models, best first."""
    curves = results.score_curves(board)
    curves = curves[np.isfinite(curves["score"]) & (curves["score"] > 0)]
    return curves, [rank.model for rank in ranking(results, board) if rank.model in set(curves["model"])]


def learning_curves(results: Results, board: Board) -> Picture | None:
    """Score against images seen and against training seconds; None if nothing was ever evaluated.

    A line is the geometric mean over the finished seeds, its band reaches from the lowest to the highest seed.
    A model without a finished seed has a thin line per seed and no markers. Where models are more than colours,
    those behind the best are grey.
    """
    curves, drawn = curved(results, board)
    if curves.empty:
        return None
    figure = Figure(figsize=(11, 4.4), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, 2, sharey=True)
    looks = styles(results.plan.models) if len(drawn) <= FEW else styles(drawn[:FEW])
    for model in [*drawn[FEW:], *drawn[:FEW]]:  # grey ones below the others
        for axes, x in zip(panels, ("images", "seconds"), strict=True):
            _score_line(axes, curves[curves["model"] == model], x, model, looks.get(model))
    for axes in panels:
        for comparison, value in floor_values(results, board).items():
            axes.axhline(value, color="0.35", ls=FLOOR_DASHES[comparison], lw=1.2, label=f"real: {comparison}")
        axes.grid(alpha=0.3)
    panels[0].set(yscale="log", ylabel=f"{board.brief()} (lower is better)")
    log_ticks(panels[0].yaxis)
    panels[0].set_xlabel("real images seen (thousands)")
    panels[1].set_xlabel("seconds of training, evaluations not counted")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    axes_of = f"{board.metric} on {board.title} against real images seen and against training seconds"
    return Picture(figure, f"{axes_of}, one line per model ({', '.join(drawn)}).")


def _score_line(axes: Axes, curves: pd.DataFrame, x: str, model: str, style: Style | None) -> None:
    scale = 1000 if x == "images" else 1
    counted = curves[curves["counted"]]
    if style is None:  # one of many
        means = curves.groupby("images").agg({"score": _geometric, "seconds": "mean"}).reset_index()
        axes.plot(means[x] / scale, means["score"], color="0.8", lw=1.2)
        return
    if counted.empty:
        for place, (_, seed) in enumerate(curves.groupby("seed")):
            label = f"{model} (no seed finished)" if place == 0 else None
            axes.plot(seed[x] / scale, seed["score"], color=style.color, ls=style.linestyle, lw=0.8, label=label)
        return
    steps = counted.groupby(counted["images"].rename("step"))
    points = steps.agg({"score": [_geometric, "min", "max"], x: ["mean"]})
    place, score = points[x]["mean"] / scale, points["score"]
    axes.plot(place, score[_geometric.__name__], **vars(style), ms=4, lw=1.6, label=model)
    axes.fill_between(place, score["min"], score["max"], color=style.color, alpha=0.15, lw=0)


def _geometric(scores: pd.Series) -> float:
    return float(np.exp(np.log(scores).mean()))


def floor_values(results: Results, board: Board) -> dict[str, float]:
    """The noise floors that a logarithmic axis has a place for, by comparison."""
    floors = results.floors_on(board)
    values = {str(row["comparison"]): float(row.get(board.metric, math.nan)) for _, row in floors.iterrows()}
    return {comparison: value for comparison, value in values.items() if value > 0}


def dots(
    axes: Axes, place: float, scores: pd.Series, colour: str, mark: str = "D", label: str | None = None
) -> None:
    """A row of a figure: the score of every seed (hollow), their mean and its 95 % interval."""
    estimate = Estimate.of(scores)
    if math.isfinite(estimate.low):
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, lw=2.2, solid_capstyle="butt")
    axes.plot(scores, [place] * len(scores), "o", mfc="white", mec=colour, ms=4, lw=0, zorder=3)
    axes.plot([estimate.mean], [place], mark, color=colour, ms=6.5, zorder=2, label=label)


# --- score against cost


def log_ticks(axis: Axis) -> None:
    """Round numbers as ticks of a logarithmic axis, whether it spans a tenth or powers of ten."""
    low, high = sorted(axis.get_view_interval())
    decades = math.log10(high / low)
    if decades < 1:
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1, 3) if decades < 4 else (1,)))
    axis.set_major_formatter(lambda x, pos: EngFormatter(sep="").format_eng(x) if x >= 1 else f"{x:.2g}")
    axis.set_minor_locator(NullLocator())


COSTS = {CLOCK: "seconds of training, evaluations not counted", schema.SIZE_G: "parameters of the generator"}


def pareto(results: Results, board: Board) -> Picture | None:
    """Score against training seconds and, where models differ in it, against the generator's size.

    None with fewer than two models. Large marks are means over finished seeds, small ones the seeds; a grey line
    joins the means that no other model beats in both.
    """
    cells = results.finished(board)
    cells = cells[cells["score"] > 0]
    if cells["model"].nunique() < 2:
        return None
    costs = [cost for cost in COSTS if cost == CLOCK or cells[cost].nunique() > 1]
    figure = Figure(figsize=(11 if len(costs) > 1 else 8, 4.4), layout="constrained", dpi=DPI)
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    looks = styles(results.plan.models)
    fronts = [_cost_panel(axes, cells, cost, looks) for axes, cost in zip(panels, costs, strict=True)]
    panels[0].set_ylabel(f"{board.brief()} (lower is better)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    names = {CLOCK: "seconds", schema.SIZE_G: "size"}
    alt = (
        f"{board.metric} on {board.title} against {' and against '.join(COSTS[cost] for cost in costs)}. "
        "Not beaten in "
        + "; ".join(f"both score and {names[c]}: {', '.join(own)}" for c, own in zip(costs, fronts, strict=True))
    )
    return Picture(figure, f"{alt}.")


def _means(cells: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Cost and score of each model: a mean, and a geometric one."""
    groups = cells.assign(score=np.log(cells["score"])).groupby("model", sort=False)[[cost, "score"]].mean()
    return groups.assign(score=np.exp(groups["score"]))


def _cost_panel(axes: Axes, cells: pd.DataFrame, cost: str, looks: Mapping[str, Style]) -> list[str]:
    """Draws a panel; returns the models on its front, cheapest first."""
    means = _means(cells, cost)
    on_front = front(means, cost)
    edge = means.loc[on_front]
    axes.plot(edge[cost], edge["score"], color="0.6", lw=1.2, drawstyle="steps-post", zorder=1)
    for model, mean in means.iterrows():
        look = looks[str(model)]
        own = cells[cells["model"] == model]
        axes.plot(own[cost], own["score"], look.marker, color=look.color, ms=3, alpha=0.5)
        axes.plot(mean[cost], mean["score"], look.marker, color=look.color, mec="black", ms=8, label=model)
    axes.set(xscale="log", yscale="log", xlabel=COSTS[cost])
    for axis in (axes.xaxis, axes.yaxis):
        log_ticks(axis)
    axes.grid(alpha=0.3)
    return on_front


def front(means: pd.DataFrame, cost: str) -> list[str]:
    """The models that no other beats in cost without losing in score, cheapest first."""
    ordered = means.dropna().sort_values([cost, "score"])
    before = ordered["score"].cummin().shift(fill_value=math.inf)
    return [str(model) for model in ordered.index[ordered["score"] < before]]


# --- samples


def examples(results: Results, board: Board) -> dict[str, pd.Series]:
    """One cell per model: of its first finished seed, else of its first seed that has a run."""
    cells = results.on(board)
    cells = cells[cells["status"] != "not run"].sort_values(["counted", "seed"], ascending=[False, True])
    firsts = {model: own.iloc[0] for model, own in cells.groupby("model", sort=False)}
    return {model: firsts[model] for model in results.plan.models if model in firsts}


def film(results: Results, board: Board, path: Path, limit: int) -> str | None:
    """Write the training of all models side by side as a GIF; returns its alt text, or None without grids."""
    cells = examples(results, board)
    tracks = [Track(model, grids(results.pictures(cell["identity"]))) for model, cell in cells.items()]
    if not save_film(tracks, resolution(results.on(board)), path, limit):
        return None
    models = ", ".join(track.title for track in tracks if len(track.grids) > 1)
    return f"Animation of the training on {board.title}, models side by side, from the same latents: {models}."


def samples(results: Results, board: Board) -> Picture | None:
    """Images of each model before, half-way through and after training, and real ones; None without any.

    A model's images come from the same latents in every panel, and from the seed that `examples` names.
    """
    cells = examples(results, board)
    found = {model: stages(results.pictures(cell["identity"]), cell) for model, cell in cells.items()}
    found = {model: panels for model, panels in found.items() if any(path for _, path in panels)}
    if not found:
        return None
    side = resolution(results.on(board))
    across, down = shape(side, len(found))
    rows: list[Row] = [
        (
            "\n".join(
                textwrap.fill(line, 20)
                for line in (model, f"seed {cells[model]['seed']}", _end_of(cells[model], board))
            ),
            [(title, panel(path, side, across, down) if path else None) for title, path in panels],
        )
        for model, panels in found.items()
    ]
    real = results.real(board)
    photos = tiles(real, side) if real else []
    if photos:
        wide = 3 * across
        whole = wide * min(down, max(1, len(photos) // wide))  # rows
        rows.append(("real images", [("", mosaic(photos[:whole], wide, 3 * PANEL))]))
    alt = (
        f"Grids of images on {board.title}, one row per model ({', '.join(found)}): untrained, half-way through "
        f"training and at the chosen checkpoint{'; real images below' if photos else ''}."
    )
    return Picture(collage(rows, LABEL), alt)


def stages(pictures: Mapping[str, Path], cell: pd.Series) -> list[tuple[str, Path | None]]:
    """The three grids of a cell with their titles: untrained, nearest to half of the training, and the end."""
    drawn = grids(pictures)
    last = max(drawn, default=0.0)
    between = [kimg for kimg in drawn if 0 < kimg < last]
    half = min(between, key=lambda kimg: abs(kimg - last / 2), default=None)
    middle = ("half-way", None) if half is None else (f"after {images(1000 * half)} images", drawn[half])
    end: tuple[str, Path | None] = ("chosen checkpoint", pictures.get("final.png"))
    if end[1]:
        chosen = pd.to_numeric(cell.get(schema.CHOSEN, math.nan), errors="coerce")
        end = (f"{end[0]}, after {images(chosen)}" if math.isfinite(chosen) else end[0], end[1])
    elif last:  # of a cell that did not finish
        end = (f"last, after {images(1000 * last)} images", drawn[last])
    return [("untrained", drawn.get(0)), middle, end]


def shape(side: int, models: int = 1) -> tuple[int, int]:
    """How many images of this side a panel has in a row, and how many rows: fewer of many models."""
    across = max(1, min(6, PANEL // 2 // (side + 1)))
    return across, max(1, min(math.ceil(across * 2 / 3), STRIPS // models))


def panel(path: Path, side: int, across: int, down: int) -> Image.Image:
    """The first images of a grid; a picture that is no grid of such images is whole."""
    own = tiles(path, side)
    return mosaic(own[: across * down], across, PANEL) if own else _whole(path, PANEL)


def resolution(cells: pd.DataFrame) -> int:
    known = pd.to_numeric(cells.get("resolution", pd.Series(dtype=float)), errors="coerce").dropna()
    return int(known.iloc[0]) if len(known) else 32


def of_runs(name: str, what: str, results: Results, board: Board) -> Picture | None:
    """The picture of this name that each run made of itself, two in a row; None if no run has one."""
    cells = examples(results, board)
    paths = {model: results.picture(cell["identity"], name) for model, cell in cells.items()}
    found = {model: _whole(path, WHOLE) for model, path in paths.items() if path}
    if not found:
        return None
    panels = [(f"{m}, seed {cells[m]['seed']}, {_end_of(cells[m], board)}", image) for m, image in found.items()]
    alt = f"On {board.title}, a panel for each of {', '.join(found)}: {what}."
    return Picture(collage([("", panels[first : first + 2]) for first in range(0, len(panels), 2)], GAP), alt)


losses = partial(of_runs, schema.CURVES, "losses, D(x) with D(G(z)), and the score during training")
neighbours = partial(of_runs, "neighbours.png", "images of a model, and the training images nearest to each")
classes = partial(of_runs, "classes.png", "class frequencies of a model")
each_class = partial(of_runs, schema.CLASS_GRID, "a row of images for each class")


def _end_of(cell: pd.Series, board: Board) -> str:
    return f"{board.brief()} {number(cell['score'])}" if cell["counted"] else f"({cell['status']})"


def _whole(path: Path, width: int) -> Image.Image:
    """A picture, made smaller if it is wider."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    image.thumbnail((width, 10 * width))
    return image


def collage(rows: Sequence[Row], label: int) -> Image.Image:
    """Rows of pictures, each below its title, with the name of the row in `label` pixels on the left."""
    letters = ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), LETTERS)
    sizes = [[image.size for _, image in panels if image] for _, panels in rows]
    steps = [max(width for width, _ in own) + GAP for own in sizes]
    heights = [max(height for _, height in own) + TITLE for own in sizes]
    width = label + max(len(panels) * step for (_, panels), step in zip(rows, steps, strict=True))
    canvas = Image.new("RGB", (width, sum(heights) + GAP), PAPER)
    pen = ImageDraw.Draw(canvas)
    top = 0
    for (name, panels), step, height in zip(rows, steps, heights, strict=True):
        pen.text((GAP, top + (TITLE + height) / 2), name, INK, letters, anchor="lm")
        for left, (title, image) in zip(range(label, width, step), panels, strict=False):
            if image:
                fits = partial(_fits, letters, image.width)
                words = shortened([title], fits)[title]
                pen.text((left, top + TITLE - 8), words, INK, letters, anchor="ls")
                canvas.paste(image, (left, top + TITLE))
        top += height
    return canvas


def _fits(letters: ImageFont.FreeTypeFont, width: int, text: str) -> bool:
    return letters.getlength(text) <= width
