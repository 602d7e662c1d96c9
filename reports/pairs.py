"""Every two models of a board: by how much they differ, and whether more than by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from reports.difference import Difference, holm
from reports.estimate import LEVEL
from reports.numbers import NOTHING, number
from reports.results import Board, Results
from reports.tables import ENOUGH, by_model, escape


@dataclass(frozen=True)
class Pair:
    """Two models of a board."""

    better: str  # the one with the lower mean
    other: str  # the one that it is compared with
    difference: Difference  # the better one's scores over the other's
    paired: bool  # whether seed was compared with seed; else by Welch's test
    p: float  # allows for all pairs of the board (Holm); NaN where a side has fewer than two seeds

    @property
    def settled(self) -> bool:
        """Whether chance is ruled out."""
        return self.p <= 1 - LEVEL


def pairs(results: Results, board: Board) -> list[Pair]:
    """All pairs of models with a finished seed, best first.

    Seeds are paired where both models have the same five or more: a seed decides the order of the data and, in
    equal networks, the weights to start from. Of fewer, pairing costs more degrees of freedom than it is worth.
    """
    scores = {model: own.set_index("seed")["score"] for model, own in by_model(results, board)}
    found = [_pair(better, other, scores) for better, other in combinations(scores, 2)]
    adjusted = holm([pair.difference.p for pair in found])
    return [replace(pair, p=p) for pair, p in zip(found, adjusted, strict=True)]


def _pair(better: str, other: str, scores: dict[str, pd.Series]) -> Pair:
    one, two = scores[better], scores[other]
    same = len(one) >= ENOUGH and set(one.index) == set(two.index)
    paired = same and bool((one > 0).all() and (two > 0).all())
    difference = Difference.paired(one, two) if paired else Difference.of(one, two)
    return Pair(better, other, difference, paired, math.nan)


def table(found: Sequence[Pair]) -> pd.DataFrame:
    """One row per pair; what is settled is bold."""
    rows = []
    for pair in found:
        mark = "**" if pair.settled else ""
        rows.append(
            {
                "Model": escape(pair.better),
                "Over": escape(pair.other),
                "Ratio of scores": f"{mark}{pair.difference}{mark}",
                "p": number(pair.difference.p, 2),
                "p (Holm)": number(pair.p, 2),
                "Test": ("paired" if pair.paired else "Welch") if math.isfinite(pair.p) else NOTHING,
            }
        )
    return pd.DataFrame(rows)


def matrix(found: Sequence[Pair]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Models best first, then ratios (row over column) and p-values (Holm), NaN on the diagonal."""
    models = list(dict.fromkeys(name for pair in found for name in (pair.better, pair.other)))
    place = {model: number for number, model in enumerate(models)}
    ratios, p = (np.full((len(models), len(models)), np.nan) for _ in range(2))
    for pair in found:
        row, column = place[pair.better], place[pair.other]
        ratios[row, column] = pair.difference.ratio
        ratios[column, row] = 1 / pair.difference.ratio
        p[row, column] = p[column, row] = pair.p
    return models, ratios, p
