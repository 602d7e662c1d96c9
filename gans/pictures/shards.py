"""The classes that each worker holds, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gans.config import ShardedConfig
from gans.data.images import ImageData
from gans.data.shards import deal, histogram
from gans.pictures.figures import one_at_a_time, save_figure

# inches of a picture's cells, shrunk where there are too many for MOST in a row or column; what has less room than
# its text is left out
ACROSS, DOWN, MOST = 0.62, 0.34, 30.0
NUMBER_ACROSS, LINE = 0.4, 0.15


@one_at_a_time
def draw_shards(update: ShardedConfig, data: ImageData, seed: int, path: Path) -> bool:
    """Write the number of training images per worker and class, as a PNG.

    Args:
        update: how the images are dealt out, and to how many workers.
        data: whose training images are dealt out.
        seed: the training seed, which the shards follow from.
        path: the PNG to write.

    Returns:
        Whether there are classes; without any, no file is written.
    """
    if data.train_labels is None:
        return False
    parts = deal(update, len(data.train), data.train_labels, seed)
    counts = histogram(parts, data.train_labels, len(data.classes)).numpy()
    workers, classes = counts.shape
    across, down = min(ACROSS, MOST / classes), min(DOWN, MOST / workers)
    figure = Figure(figsize=(2.2 + across * classes, 1.6 + down * workers), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(counts, cmap="Greys", vmin=0, aspect="auto", interpolation="nearest")
    dark = counts.max() / 2
    for n, c in np.argwhere(counts) if across >= NUMBER_ACROSS and down >= LINE else ():
        colour = "white" if counts[n, c] > dark else "black"
        axes.text(c, n, f"{counts[n, c]:,}", ha="center", va="center", color=colour, fontsize=8)
    names, sizes = data.classes, [f"{n}  ({len(part):,} images)" for n, part in enumerate(parts)]
    slant = 60 if max(map(len, names)) > 5 else 0
    # no names where there is no room for all: a selection would look like all
    axes.set_xticks(*((range(classes), names) if across >= LINE else ([], [])), rotation=slant)
    axes.set_yticks(*((range(workers), sizes) if down >= LINE else ([], [])))
    kind = f"dirichlet, alpha = {update.alpha:g}" if update.shards == "dirichlet" else update.shards
    axes.set(xlabel="class", ylabel="worker", title=f"Training images per worker and class: {data.title}, {kind}")
    save_figure(figure, path)
    return True
