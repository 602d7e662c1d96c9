"""The curves of one run, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gans.checkpoint import atomically

Points = Sequence[tuple[int, float]]  # (images seen, value)

# colours and dashes that differ in grey and for colour-blind readers (Okabe & Ito)
STYLES = (("#0072B2", "-"), ("#D55E00", "--"))


def draw_curves(histories: Mapping[str, Points], path: Path) -> None:
    """Losses, D(x) with D(G(z)), and score against images seen, as a PNG.

    Args:
        histories: points by metric name, as training logs them.
        path: the PNG to write.
    """
    score = next((name for name in histories if name.startswith("curve/")), None)
    figure = Figure(figsize=(12, 3.4), dpi=100)
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.16, top=0.96, wspace=0.2)  # layout engines are slow
    losses, beliefs, scores = figure.subplots(1, 3)
    _lines(losses, histories, {"loss/discriminator": "discriminator", "loss/generator": "generator"})
    losses.set_ylabel("loss")
    _lines(beliefs, histories, {"D/real": "D(x)", "D/fake": "D(G(z))"})
    beliefs.set(ylabel="mean sigmoid of the logit", ylim=(0, 1))
    if score:
        _lines(scores, histories, {score: score.removeprefix("curve/")})
        scores.set(ylabel=f"{score.removeprefix('curve/')} (lower is better)", yscale="log")
    atomically(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))


def _lines(axes: Axes, histories: Mapping[str, Points], names: Mapping[str, str]) -> None:
    for (name, label), (colour, dash) in zip(names.items(), STYLES, strict=False):
        points = histories.get(name, ())
        axes.plot([x / 1000 for x, _ in points], [y for _, y in points], color=colour, ls=dash, label=label)
    axes.set_xlabel("real images seen (thousands)")
    axes.grid(alpha=0.3)
    axes.legend()
