"""How a data set is dealt out to workers: evenly at random, or skewed by class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gans import seeds
from gans.config import ShardedConfig
from gans.errors import InputError
from gans.images import ImageData

# inches of a picture's cells, shrunk where there are too many for MOST in a row or column; what has less room than
# its text is left out
ACROSS, DOWN, MOST = 0.62, 0.34, 30.0
NUMBER_ACROSS, LINE = 0.4, 0.15


def deal(update: ShardedConfig, n: int, labels: Tensor | None, seed: int) -> list[Tensor]:
    """Disjoint parts that cover 0..n-1, one per worker: int64 tensors, a function of the arguments alone.

    Args:
        update: says how many workers and which kind of shards.
        n: images.
        labels: their classes, int64 (n,); only skewed shards need them.
        seed: the training seed.

    Raises:
        InputError: skewed shards are asked for and there are no labels.
    """
    if update.shards == "iid":
        return iid(n, update.workers, seed)
    if labels is None:
        raise InputError(
            f'update.shards = "{update.shards}" needs labelled images; sort them into one folder per class, '
            'or take "iid"'
        )
    if update.shards == "classes":
        return by_class(labels.cpu(), update.workers, seed)
    return dirichlet(labels.cpu(), update.workers, update.alpha, seed)


def iid(n: int, workers: int, seed: int) -> list[Tensor]:
    """Dealt at random into sizes that differ by at most one."""
    order = torch.randperm(n, generator=seeds.generator(seed, "shards"))
    return list(order.tensor_split(workers))


def by_class(labels: Tensor, workers: int, seed: int) -> list[Tensor]:
    """As few classes per worker as there can be, classes in order; images of a class in random order.

    With no more workers than classes, worker n holds classes n, n + N, n + 2N, ...; with more, it holds class
    n mod C and shares its images evenly with the other workers of that class. Sizes follow the classes'.
    """
    pools = _pools(labels, seed)
    classes = len(pools)
    if workers <= classes:
        return [torch.cat(pools[n::workers]) for n in range(workers)]
    shares = [list(pool.tensor_split(len(range(c, workers, classes)))) for c, pool in enumerate(pools)]
    return [shares[n % classes][n // classes] for n in range(workers)]


def dirichlet(labels: Tensor, workers: int, alpha: float, seed: int) -> list[Tensor]:
    """Every worker draws its own mix of classes q ~ Dir(alpha p), p being the data's mix.

    Hsu, Qi and Brown 2019 (1909.06335), section 3. Sizes differ by at most one, as in the paper. Workers take
    turns, each taking one image of a class drawn from its q among the classes that are not used up; in turns, lest
    the last worker be left with what nobody wanted. Alpha to 0 gives one class each, to infinity the data's mix.
    """
    pools = [pool.tolist() for pool in _pools(labels, seed)]
    left = np.array([len(pool) for pool in pools])
    rng = np.random.default_rng(seeds.mix(seed, "shards", "dirichlet"))
    mixes = rng.dirichlet(alpha * left / left.sum(), size=workers)
    parts: list[list[int]] = [[] for _ in range(workers)]
    for place, draw in enumerate(rng.random(len(labels))):
        shares = np.where(left > 0, mixes[place % workers], 0.0)
        if not shares.any():  # all that this worker draws from is used up
            shares = left
        # relative to the largest: what is left of a small alpha may be too small for a float to be a fraction of
        wanted = np.cumsum(shares / shares.max())
        c = int(np.searchsorted(wanted, draw * wanted[-1], side="right"))
        parts[place % workers].append(pools[c].pop())
        left[c] -= 1
    return [torch.tensor(part, dtype=torch.int64) for part in parts]


def _pools(labels: Tensor, seed: int) -> list[Tensor]:
    """The images of each class that there is, in random order."""
    order = torch.randperm(len(labels), generator=seeds.generator(seed, "shards"))
    shuffled = labels[order]
    return [order[shuffled == c] for c in labels.unique(sorted=True)]


def check_shards(update: ShardedConfig, batch: int, n: int, labels: Tensor | None, seed: int) -> None:
    """Refuse shards that could not be dealt, or that hold less than a batch.

    Raises:
        InputError: with the remedy.
    """
    # the smallest shard is no larger than the mean; so many that it is too small need not be dealt to know
    smallest = n // update.workers
    if smallest >= batch:
        smallest = min(map(len, deal(update, n, labels, seed)))
    if smallest < batch:
        raise InputError(
            f"update.workers = {update.workers} leaves shards of {smallest} images, fewer than "
            f"batch = {batch}; take fewer workers or a smaller batch"
        )


def histogram(parts: list[Tensor], labels: Tensor, classes: int) -> Tensor:
    """Images of each class per worker: int64 (workers, classes)."""
    return torch.stack([torch.bincount(labels[part], minlength=classes) for part in parts])


def draw_shards(update: ShardedConfig, data: ImageData, seed: int, path: Path) -> bool:
    """Write a picture of the classes that each worker holds; returns whether there are any."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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
    # of more than there is room for, no name: every fifth, say, would look like all
    axes.set_xticks(*((range(classes), names) if across >= LINE else ([], [])), rotation=slant)
    axes.set_yticks(*((range(workers), sizes) if down >= LINE else ([], [])))
    kind = f"dirichlet, alpha = {update.alpha:g}" if update.shards == "dirichlet" else update.shards
    axes.set(xlabel="class", ylabel="worker", title=f"Training images per worker and class: {data.title}, {kind}")
    figure.savefig(path)
    return True
