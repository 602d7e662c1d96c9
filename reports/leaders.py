"""The pictures of the first screen: the models with images, scores and time, and every two of them compared."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from gans.pictures.grids import mosaic, tiles
from gans.pictures.lettering import brief
from reports.figures import DPI, Picture, dots, examples, log_ticks, resolution
from reports.numbers import number
from reports.results import CLOCK
from reports.standing import Standing

# the best model, those that do not differ from it significantly, the others
BEST, NEAR, FAR = "#0072B2", "#56B4E9", "0.45"
# pixels
WIDTH, LETTER, TIME, MARGIN, FOOT = 1180, 9.8, 170, 16, 62
APART = 2 * MARGIN  # of the two axes: half of a number's last tick reaches into it
LONGEST = 26  # letters of a name
BARE = 34  # height of a row without images
TILES, STRIP = 6, 320  # images of a model, and about how wide they are together


def leaders(standing: Standing) -> Picture | None:
    """A row per model, best first: images that it drew, its score with interval and seeds, its training time.

    None if no cell has a score.
    """
    if not standing.ranks:
        return None
    strips = _strips(standing)
    row = max([BARE, *(strip.shape[0] + 10 for strip in strips.values())])
    images = max((strip.shape[1] + MARGIN for strip in strips.values()), default=0)
    height = row * len(standing.ranks) + FOOT + MARGIN
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI)
    rows = row * len(standing.ranks)
    names = brief((rank.model for rank in standing.ranks), LONGEST)
    room = round(2 * MARGIN + LETTER * max(8, *map(len, names.values())))
    left = room + images
    right = WIDTH - TIME - 2 * MARGIN - APART
    scores = figure.add_axes((left / WIDTH, FOOT / height, (right - left) / WIDTH, rows / height))
    times = figure.add_axes(((right + APART) / WIDTH, FOOT / height, TIME / WIDTH, rows / height))
    _scores(scores, standing)
    _times(times, standing)
    for place, rank in enumerate(standing.ranks):
        middle = FOOT + rows - (place + 0.5) * row
        weight = "bold" if place == 0 else "normal"
        figure.text(MARGIN / WIDTH, middle / height, names[rank.model], fontsize=9.5, va="center", weight=weight)
        if rank.model in strips:
            strip = strips[rank.model]
            figure.figimage(strip, room, round(middle - strip.shape[0] / 2), origin="upper")
    order = ", ".join(f"{rank.model} {number(rank.estimate.mean)}" for rank in standing.ranks)
    return Picture(
        figure, f"{standing.board.metric} on {standing.board.title} with 95 % intervals, best first: {order}."
    )


def _strips(standing: Standing) -> dict[str, np.ndarray]:
    """The first images of each model's chosen checkpoint in a row."""
    side = resolution(standing.results.on(standing.board))
    paths = {
        model: standing.results.pictures(cell["identity"]).get("final.png")
        for model, cell in examples(standing.results, standing.board).items()
    }
    found = {model: tiles(path, side)[:TILES] for model, path in paths.items() if path}
    return {model: np.asarray(mosaic(own, len(own), STRIP).convert("RGB")) for model, own in found.items() if own}


def _scores(axes: Axes, standing: Standing) -> None:
    for place, rank in enumerate(standing.ranks):
        own = standing.cells.loc[standing.cells["model"] == rank.model, "score"]
        dots(axes, place, own, _colour(standing, rank.model))
    _rows(axes, standing)
    if all(rank.estimate.mean > 0 for rank in standing.ranks):
        axes.set_xscale("log")
        # intervals of two seeds may span powers of ten: the axis ends a factor of three beyond the scores
        scores = standing.cells.loc[standing.cells["score"] > 0, "score"]
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, scores.min() / 3), min(high, scores.max() * 3))
        log_ticks(axes.xaxis)
    axes.set_xlabel(f"{standing.board.brief()} (lower is better)", fontsize=9.5)


def _times(axes: Axes, standing: Standing) -> None:
    seconds = standing.cells.groupby("model")[CLOCK].mean()
    for place, rank in enumerate(standing.ranks):
        own = seconds[rank.model]
        if math.isfinite(own):
            axes.barh(place, own, height=0.5, color=_colour(standing, rank.model))
            axes.annotate(
                f"{number(own, 2)} s", (own, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5
            )
    _rows(axes, standing)
    axes.set_xlim(0, 1.45 * max((own for own in seconds if math.isfinite(own)), default=1.0) or 1.0)
    axes.set_xlabel("training (s)", fontsize=9.5)


def _rows(axes: Axes, standing: Standing) -> None:
    axes.set(ylim=(len(standing.ranks) - 0.5, -0.5), yticks=[])
    axes.tick_params(labelsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _colour(standing: Standing, model: str) -> str:
    if model == standing.ranks[0].model:
        return BEST
    pair = standing.lead.get(model)
    return FAR if pair and pair.settled else NEAR


def matrix(standing: Standing) -> Picture | None:
    """Every two models: the ratio of their scores above the diagonal, p below; None with fewer than two."""
    if not standing.pairs:
        return None
    models = [rank.model for rank in standing.ranks]
    count = len(models)
    cell, size = (0.62, 8.5) if count <= 8 else (0.5, 7.5)
    figure = Figure(figsize=(2.1 + cell * count, 1.7 + cell * 0.62 * count), layout="constrained", dpi=DPI)
    axes = figure.subplots()
    colours = np.ones((count, count, 3))
    colours[np.eye(count, dtype=bool)] = 0.85
    for pair in standing.pairs:
        row, column = models.index(pair.better), models.index(pair.other)
        ink = "white" if pair.settled else "black"
        for x, y, text in (column, row, number(pair.difference.ratio, 2)), (row, column, _chance(pair.p)):
            colours[y, x] = to_rgb(BEST) if pair.settled else 1.0
            axes.text(x, y, text, ha="center", va="center", fontsize=size, color=ink)
    edges = np.arange(count + 1) - 0.5
    axes.pcolormesh(edges, edges, colours, edgecolors="0.8", lw=0.8)
    axes.invert_yaxis()
    axes.set_xticks(range(count), models, rotation=35, ha="left", rotation_mode="anchor", fontsize=size)
    axes.xaxis.tick_top()
    axes.set_yticks(range(count), models, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    settled = [f"{pair.better} below {pair.other}" for pair in standing.pairs if pair.settled]
    about = f"Ratios of {standing.board.metric} on {standing.board.title} of every two models, and their p-values."
    return Picture(figure, f"{about} Significant: {', '.join(settled) or 'none'}.")


def _chance(p: float) -> str:
    """A p-value in a small space."""
    if not math.isfinite(p):
        return "?"
    return f"{p:.2f}" if p >= 0.01 else f"{p:.3f}" if p >= 0.001 else "<.001"
