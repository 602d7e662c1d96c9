"""How a data set is divided among workers: evenly at random, or skewed by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gans import seeds
from gans.errors import InputError

if TYPE_CHECKING:
    from gans.config import ShardedConfig


def deal(update: ShardedConfig, n: int, labels: Tensor | None, seed: int) -> list[Tensor]:
    """Disjoint parts that cover 0..n-1, one per worker: int64 tensors, a function of the arguments alone."""
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
    """At random, in sizes that differ by at most one."""
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

    Hsu, Qi and Brown 2019 (1909.06335), section 3. Workers take turns, each taking one image of a class drawn from
    its q among those not used up; without turns the last one would get what is left.
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
        cumulative = np.cumsum(shares / shares.max())
        c = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
        parts[place % workers].append(pools[c].pop())
        left[c] -= 1
    return [torch.tensor(part, dtype=torch.int64) for part in parts]


def _pools(labels: Tensor, seed: int) -> list[Tensor]:
    """The images of each class that there is, in random order."""
    order = torch.randperm(len(labels), generator=seeds.generator(seed, "shards"))
    shuffled = labels[order]
    return [order[shuffled == c] for c in labels.unique(sorted=True)]


def check_shards(update: ShardedConfig, batch: int, n: int, labels: Tensor | None, seed: int) -> None:
    """Refuse shards that could not be dealt, or that hold less than a batch."""
    smallest = min(map(len, deal(update, n, labels, seed)))
    if smallest < batch:
        raise InputError(
            f"update.workers = {update.workers} leaves shards of {smallest} images, fewer than "
            f"batch = {batch}; take fewer workers or a smaller batch"
        )


def histogram(parts: list[Tensor], labels: Tensor, classes: int) -> Tensor:
    """Images of each class per worker: int64 (workers, classes)."""
    return torch.stack([torch.bincount(labels[part], minlength=classes) for part in parts])
