"""The curves of one run, as a picture."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from gans import schema
from gans.pictures.figures import save_figure
from gans.pictures.lettering import brief

Points = Sequence[tuple[int, float]]  # (images seen, value)
Curve = Sequence[tuple[float, float]]

# colours and dashes that differ in grey and for colour-blind readers (Okabe & Ito)
STYLES = (("#0072B2", "-"), ("#D55E00", "--"))

CLOCK = schema.TRAINING


def draw_curves(histories: Mapping[str, Points], path: Path) -> None:
    """Draw losses, D(x) with D(G(z)), and score as a PNG: above against images seen, below against seconds.

    The points are by metric name, as training logs them. `seconds/training` is the clock of the second row, which
    is left out without it; evaluations do not count.
    """
    clock = histories.get(CLOCK, ())
    scales: dict[str, Callable[[Points], Curve]] = {"real images seen (thousands)": _thousands}
    if clock:
        scales["seconds of training, evaluations not counted"] = _seconds(clock)
    figure = Figure(figsize=(12, 3.5 * len(scales)), dpi=100)
    bottom, top = 0.16 / len(scales), 1 - 0.1 / len(scales)
    figure.subplots_adjust(left=0.06, right=0.99, bottom=bottom, top=top, wspace=0.23, hspace=0.36)
    rows = figure.subplots(len(scales), 3, squeeze=False)
    for row, (label, scale) in zip(rows, scales.items(), strict=True):
        _row(row, {name: scale(points) for name, points in histories.items()})
        for axes in row:
            axes.set_xlabel(label)
    save_figure(figure, path)


def _thousands(points: Points) -> Curve:
    return [(images / 1000, value) for images, value in points]


def _seconds(clock: Points) -> Callable[[Points], Curve]:
    """Points against the clock, which starts at 0 and is read between its own points."""
    images, seconds = [0, *(x for x, _ in clock)], [0.0, *(y for _, y in clock)]
    return lambda points: [(float(np.interp(x, images, seconds)), y) for x, y in points]


def _row(row: Sequence[Axes], histories: Mapping[str, Curve]) -> None:
    losses, beliefs, scores = row
    _lines(losses, histories, {schema.LOSS_D: "discriminator", schema.LOSS_G: "generator"})
    losses.set_ylabel("loss")
    _lines(beliefs, histories, {"D/real": "D(x)", "D/fake": "D(G(z))"})
    beliefs.set(ylabel="mean sigmoid of the logit", ylim=(0, 1))
    score = next((name for name in histories if name.startswith(schema.CURVE)), None)
    if score:
        (name,) = brief([score.removeprefix(schema.CURVE)], 30).values()
        _lines(scores, histories, {score: name}, marker="o")
        scores.set(ylabel=f"{name} (lower is better)", yscale="log")
        for formatter in (scores.yaxis.set_major_formatter, scores.yaxis.set_minor_formatter):
            formatter(LogFormatter())  # 80 in place of 8 x 10^1


def _lines(axes: Axes, histories: Mapping[str, Curve], names: Mapping[str, str], marker: str = "") -> None:
    for (name, label), (colour, dash) in zip(names.items(), STYLES, strict=False):
        points = histories.get(name, ())
        x, y = [x for x, _ in points], [y for _, y in points]
        axes.plot(x, y, color=colour, ls=dash, marker=marker, ms=4, label=label)
    axes.grid(alpha=0.3)
    # above the axes, where no line runs
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), frameon=False, borderaxespad=0.2)
