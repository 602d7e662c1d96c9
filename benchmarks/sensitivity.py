"""How each metric reacts to damaged images: `gans sensitivity digits`.

Held-out real images take the place of generated ones and are damaged step by step. A metric that does not change
is insensitive to that damage; one that changes in the wrong direction misleads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from benchmarks.options import FEWEST_DAMAGED, MOST_DAMAGED
from gans import fidelity
from gans.commands.score import plus_minus
from gans.data import datasets
from gans.data.images import ImageData
from gans.errors import InputError
from gans.fidelity.metric import error_of
from gans.fidelity.protocol import SEED
from gans.fidelity.scorer import Scorer
from gans.pictures.grids import laid_out, photos
from gans.registry import label
from reports import ROOT as REPORTS
from reports.report import write_new

ROOT = REPORTS / "sensitivity"


@dataclass(frozen=True)
class Subject:
    """What is damaged: the data set, and `n` of its held-out images whenever images are drawn."""

    data: ImageData
    n: int

    @classmethod
    def of(cls, images: ImageData, most: int = MOST_DAMAGED) -> Self:
        """As many images as are left when most classes are dropped, so that n is the same everywhere.

        An InputError if the data set has no classes to drop, or too few held-out images.
        """
        if images.test_labels is None:
            raise InputError(f"'{images.name}' has no classes to drop; name a data set with labels")
        left = len(cls(images, most).kept(DROPPED[-1]))
        if left < FEWEST_DAMAGED:
            raise InputError(
                f"'{images.name}' leaves {left} held-out images of few classes; {FEWEST_DAMAGED} are needed"
            )
        return cls(images, min(most, left))

    def draw(self, images: Tensor, count: int) -> Tensor:
        """`count` of the images, always the same."""
        return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))[:count]]

    @property
    def held_out(self) -> Tensor:
        return self.draw(self.data.test, self.n)

    def kept(self, share: float) -> Tensor:
        """The held-out images without this share of the classes."""
        assert self.data.test_labels is not None  # `Subject.of` checked it
        return self.data.test[self.data.test_labels >= round(share * len(self.data.classes))]


def _noise(subject: Subject, deviation: float) -> Tensor:
    images = subject.held_out
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(SEED))
    return (images + deviation * noise).round().clamp(0, 255).to(torch.uint8)


def _blur(subject: Subject, sigma: float) -> Tensor:
    images = subject.held_out
    return gaussian_blur(images, 2 * int(np.ceil(3 * sigma)) + 1, [sigma]) if sigma else images


def _shift(subject: Subject, pixels: float) -> Tensor:
    images = subject.held_out
    padded = torch.nn.functional.pad(images, (int(pixels), 0, 0, 0), mode="replicate")
    return padded[..., : images.shape[-1]].contiguous()


def _contrast(subject: Subject, share: float) -> Tensor:
    return (subject.held_out * share).round().to(torch.uint8)


def _drop(subject: Subject, share: float) -> Tensor:
    return subject.draw(subject.kept(share), subject.n)


def _duplicate(subject: Subject, times: float) -> Tensor:
    few = subject.draw(subject.data.test, -(-subject.n // int(times)))
    return few.repeat(int(times), 1, 1, 1)[: subject.n]


def _copy(subject: Subject, share: float) -> Tensor:
    copies = round(share * subject.n)
    others = subject.draw(subject.data.test, subject.n - copies)
    return torch.cat([subject.draw(subject.data.train, copies), others])


@dataclass(frozen=True)
class Damage:
    """`apply` gives uint8 images (n, channels, side, side) at a level; the first level changes nothing."""

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Subject, float], Tensor]


DROPPED = (0.0, 0.1, 0.2, 0.4, 0.6)
DAMAGES = (
    Damage("noise", "deviation, grey levels", (0, 8, 16, 32, 64), _noise),
    Damage("blur", "sigma, pixels", (0, 0.4, 0.7, 1, 1.5), _blur),
    Damage("shift", "pixels", (0, 1, 2, 3, 4), _shift),
    Damage("contrast", "of the original", (1, 0.9, 0.75, 0.5, 0.25), _contrast),
    Damage("dropped classes", "share of classes", DROPPED, _drop),
    Damage("duplicates", "times each image", (1, 2, 4, 8, 16), _duplicate),
    Damage("training copies", "share of images", (0, 0.25, 0.5, 0.75, 1), _copy),
)


def measure(scorer: Scorer, subject: Subject, damages: Sequence[Damage] = DAMAGES) -> pd.DataFrame:
    """Every metric at every level: columns damage, level, metric, value, error."""
    untouched = scorer.score(subject.held_out)
    rows = []
    for damage in damages:
        for step, level in enumerate(damage.levels):
            scores = scorer.score(damage.apply(subject, level)) if step else untouched
            rows += [(damage.name, level, name, scores[name], scores[error_of(name)]) for name in scorer.metrics]
    return pd.DataFrame(rows, columns=["damage", "level", "metric", "value", "error"])


def in_standard_errors(measured: pd.DataFrame) -> pd.DataFrame:
    """By how many standard errors the strongest level of each damage (columns) moves each metric (rows)."""
    groups = measured.groupby(["metric", "damage"], sort=False)
    first, last = groups.first(), groups.last()
    moved: pd.Series = (last["value"] - first["value"]) / np.hypot(first["error"], last["error"])
    return moved.unstack()[list(measured["damage"].unique())].reindex(measured["metric"].unique())


def draw(measured: pd.DataFrame, scorer: Scorer, subject: Subject) -> Figure:
    """Small multiples: metrics down, damages across, an example of every level above."""
    metrics = [str(name) for name in measured["metric"].unique()]
    damages = [damage for damage in DAMAGES if damage.name in set(measured["damage"])]
    size = (2.1 * len(damages) + 0.8, 1.15 * len(metrics) + 1.1)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    heights = [0.55, *[1.0] * len(metrics)]
    grid = figure.subplots(1 + len(metrics), len(damages), squeeze=False, height_ratios=heights, sharey="row")
    for column, damage in enumerate(damages):
        _draw_examples(grid[0, column], damage, subject)
        own = measured[measured["damage"] == damage.name]
        for row, name in enumerate(metrics, start=1):
            _draw_line(grid[row, column], own[own["metric"] == name])
        grid[-1, column].set_xlabel(damage.unit, fontsize=8)
        grid[-1, column].set_xticks(range(len(damage.levels)), [f"{level:g}" for level in damage.levels])
    for row, name in enumerate(metrics, start=1):
        metric = scorer.metrics[name]
        grid[row, 0].set_ylabel(f"{metric.name.replace('_', ' ')} {metric.best}", fontsize=8)
    return figure


def _draw_examples(axes: Axes, damage: Damage, subject: Subject) -> None:
    images = torch.stack([damage.apply(subject, level)[0] for level in damage.levels])
    axes.imshow(laid_out(photos(images), len(images)), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(damage.name, fontsize=9, fontweight="bold")


def _draw_line(axes: Axes, own: pd.DataFrame) -> None:
    axes.axhline(own["value"].iloc[0], color="#999999", linewidth=0.8, linestyle=":")
    bars = 2 * own["error"]
    axes.errorbar(range(len(own)), own["value"], bars, color="#0072B2", marker="o", markersize=3, linewidth=1.2)
    axes.set_xticks(range(len(own)), [""] * len(own))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)


def _wide(own: pd.DataFrame) -> pd.DataFrame:
    """Metrics down, levels across."""
    cells = own.assign(cell=list(map(plus_minus, own["value"], own["error"])))
    wide = cells.pivot(index="metric", columns="level", values="cell").rename(columns="{:g}".format)
    levels = [f"{level:g}" for level in own["level"].unique()]
    return wide.loc[own["metric"].unique(), levels].reset_index()


def page(measured: pd.DataFrame, scorer: Scorer, subject: Subject, root: Path = ROOT) -> Path:
    """Write `root`/<name>.md (else <name>-2.md, ...) and its picture; returns the page."""
    images, tables = subject.data, {name: _wide(own) for name, own in measured.groupby("damage")}
    return write_new(
        root,
        label(images.name),
        "sensitivity.md.j2",
        draw(measured, scorer, subject),
        images=images,
        n=subject.n,
        extractor=scorer.extractor.name,
        kinds=len(DAMAGES),
        moved=in_standard_errors(measured).map("{:+.1f}".format).reset_index(names="metric"),
        numbers={damage: tables[damage.name] for damage in DAMAGES if damage.name in tables},
    )


def write(name: str, device: torch.device, most: int = MOST_DAMAGED) -> Path:
    images = datasets.load(name)
    subject = Subject.of(images, most)
    scorer = Scorer(images, fidelity.default_extractor(images), subject.n, device)
    return page(measure(scorer, subject), scorer, subject)
