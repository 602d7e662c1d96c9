"""Pictures of a training: the generator's images, their nearest training images, classes drawn and held."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gans.config import ShardedConfig
from gans.data.images import ImageData
from gans.data.shards import deal, histogram
from gans.pictures.figures import save_figure
from gans.pictures.grids import laid_out, photos
from gans.pictures.lettering import brief, class_names

COLOURS = ("#0072B2", "#E69F00")  # Okabe & Ito
SCALE = 3  # times the data's largest class: where the scale of class shares ends
INCH = 0.5  # side of one image: reports put two of these pictures in a row, 640 pixels each
LETTERS = 11  # points: they are read at two thirds of that there
# inches of a picture's cells, shrunk where there are too many for MOST in a row or column; what has less room than
# its text is left out
ACROSS, DOWN, MOST = 0.62, 0.34, 30.0
NUMBER_ACROSS, LINE = 0.4, 0.15


def draw_neighbours(generated: Tensor, nearest: Tensor, extractor: str, path: Path) -> None:
    """Draw generated images in a row, and below each the training images nearest to it, as a PNG.

    `generated` are uint8 (n, channels, side, side), `nearest` uint8 (n, k, channels, side, side), the nearest
    first in the features of the extractor.
    """
    title = (
        f"The sample grid's first images, and below each\nthe training images nearest in the {extractor} features"
    )
    names = ["generated", "nearest", *(f"rank {n}" for n in range(2, nearest.shape[1] + 1))]
    _draw_rows(title, names, [generated, *nearest.unbind(1)], path, left=1.15, gap=0.08)


def draw_each_class(images: Tensor, drawn: Sequence[int], labels: Sequence[str], path: Path) -> None:
    """Draw a row of images for each class that was drawn, with its name, as a PNG; columns share their latents.

    `images` are uint8 (len(drawn), n, channels, side, side); `drawn` are numbers of classes, `labels` the names of
    all.
    """
    labels = class_names(tuple(labels))
    short = brief(labels, 16)
    names = [short[labels[one]] for one in drawn]
    rest = f"; {len(labels) - len(drawn)} more classes" if len(labels) > len(drawn) else ""
    title = f"Each row is of one class{rest};\neach column has one latent"
    _draw_rows(title, names, images.unbind(), path, left=0.35 + 0.09 * max(map(len, names)))


def _draw_rows(
    title: str, names: Sequence[str], rows: Sequence[Tensor], path: Path, left: float, gap: float = 0.0
) -> None:
    """Rows of images (n, channels, side, side) with their names, `left` inches of room for these.

    With a gap, which is in inches, the first row is set apart and its name is bold.
    """
    # tight columns of images; layout engines are slow
    top, line, count = 0.5, 0.04, len(rows[0])
    width, height = left + count * INCH + line, top + len(rows) * INCH + gap + line
    figure = Figure(figsize=(width, height), dpi=100)
    figure.text(0.5, 1 - top / 2 / height, title, ha="center", va="center", fontsize=LETTERS)
    for row, (name, images) in enumerate(zip(names, rows, strict=True)):
        bottom = height - top - (1 + row) * INCH - (gap if row else 0)
        axes = figure.add_axes((left / width, bottom / height, count * INCH / width, INCH / height))
        axes.imshow(
            laid_out(photos(images), count), cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto"
        )
        axes.set_axis_off()
        middle, weight = (bottom + INCH / 2) / height, "bold" if gap and not row else "normal"
        figure.text((left - 0.06) / width, middle, name, ha="right", va="center", fontsize=LETTERS, weight=weight)
    save_figure(figure, path)


def draw_classes(shares: Tensor, labels: Sequence[str], path: Path) -> None:
    """Draw how often the generator draws each class and how often the data has it, as a PNG.

    `shares` are (2, classes), generated above training images, each row with the sum 1. Without `labels` the
    classes are numbered.
    """
    count, labels = shares.shape[1], class_names(tuple(labels))
    figure = Figure(figsize=(max(5.0, min(12.0, 0.64 * count)), 3.4), dpi=100, layout="tight")
    axes: Axes = figure.subplots()
    places = np.arange(count)
    for offset, row, name, colour in zip(
        (-0.2, 0.2), shares, ("generated", "training images"), COLOURS, strict=True
    ):
        axes.bar(places + offset, row.numpy(), width=0.4, color=colour, label=name)
    long = max(map(len, labels), default=0) > 4
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(places, labels or [str(place) for place in places], **slanted)
    axes.tick_params(labelsize=LETTERS)
    axes.set_xlabel("class, as the classifier sees it", fontsize=LETTERS)
    axes.set_ylabel("share of images", fontsize=LETTERS)
    # by the data alone, so that the pictures of several models compare
    top = min(1.0, SCALE * float(shares[1].max()))
    axes.set_ylim(0, 1.55 * top)  # room for the legend and for what `_mark_beyond` writes
    _mark_beyond(axes, shares[0], top)
    distance = (shares[0] - shares[1]).abs().sum().item() / 2
    axes.set_title(
        f"Classes drawn and classes in the data:\ntotal variation distance {distance:.3f}", fontsize=LETTERS
    )
    axes.legend(ncols=2, loc="upper right", fontsize=LETTERS)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    save_figure(figure, path)


def _mark_beyond(axes: Axes, generated: Tensor, top: float) -> None:
    """Cut the bars that end above `top`, and write their share on them."""
    bars: list[Any] = list(axes.patches)[: len(generated)]
    for bar, share in zip(bars, generated.tolist(), strict=True):
        if share > top:
            bar.set_height(top)
            middle = bar.get_x() + bar.get_width() / 2
            axes.annotate(
                f"{share:.2f} ↑", (middle, top), (0, 2), textcoords="offset points", ha="center", fontsize=LETTERS
            )


def draw_shards(update: ShardedConfig, data: ImageData, seed: int, path: Path) -> bool:
    """Write the number of training images per worker and class, as a PNG; False, and no file, without classes.

    `seed` is that of the training, which the shards follow from.
    """
    if data.train_labels is None:
        return False
    parts = deal(update, len(data.train), data.train_labels, seed)
    counts = histogram(parts, data.train_labels, len(data.classes)).numpy()
    workers, classes = counts.shape
    across, down = min(ACROSS, MOST / classes), min(DOWN, MOST / workers)
    figure = Figure(figsize=(2.2 + across * classes, 1.6 + down * workers), layout="constrained", dpi=110)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Greys", vmin=0, aspect="auto", interpolation="nearest")
    dark = counts.max() / 2
    for n, c in np.argwhere(counts) if across >= NUMBER_ACROSS and down >= LINE else ():
        colour = "white" if counts[n, c] > dark else "black"
        axes.text(c, n, f"{counts[n, c]:,}", ha="center", va="center", color=colour, fontsize=8)
    names, sizes = class_names(data.classes), [f"{n}  ({len(part):,} images)" for n, part in enumerate(parts)]
    slant = 60 if max(map(len, names)) > 5 else 0
    # no names where there is no room for all: a selection would look like all
    axes.set_xticks(*((range(classes), names) if across >= LINE else ([], [])), rotation=slant)
    axes.set_yticks(*((range(workers), sizes) if down >= LINE else ([], [])))
    kind = f"dirichlet, alpha = {update.alpha:g}" if update.shards == "dirichlet" else update.shards
    axes.set(xlabel="class", ylabel="worker", title=f"Training images per worker and class: {data.title}, {kind}")
    save_figure(figure, path)
    return True
