"""A mean over training seeds and how sure it is, on the scale on which a score varies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from gans.fidelity.metric import Scale
from reports.numbers import NOTHING, fixed, number, places, plain

LEVEL = 0.95

Map = Callable[[np.ndarray], np.ndarray]
# what a t-interval is taken of, and the way back; the interval then stays within the limits of the score
MAPS: dict[Scale, tuple[Map, Map]] = {
    "ratio": (np.log, np.exp),
    "share": (special.logit, special.expit),
    "signed": (np.asarray, np.asarray),
}
LIMITS: dict[Scale, tuple[float, float]] = {
    "ratio": (0, math.inf),
    "share": (0, 1),
    "signed": (-math.inf, math.inf),
}


@dataclass(frozen=True)
class Estimate:
    """A mean over training seeds."""

    mean: float  # of a score above 0 the geometric one; NaN without a value
    low: float  # lower end of the 95 % interval of the mean (Student's t); NaN with fewer than two values
    high: float  # its upper end
    n: int  # how many finite values there are

    @classmethod
    def of(cls, values: pd.Series, scale: Scale = "ratio") -> Estimate:
        """The estimate from one value per seed; what is not finite is left out.

        Scores above 0 are averaged as logarithms, shares as logits. Where a value is the limit itself, there
        is no such number: the interval is then additive, and cut off at the limit.
        """
        finite = values.to_numpy(dtype=float)
        finite = finite[np.isfinite(finite)]
        if not len(finite):
            return cls(math.nan, math.nan, math.nan, 0)
        least, most = LIMITS[scale]
        inside = ((finite > least) & (finite < most)).all()
        there, back = MAPS[scale if inside else "signed"]
        mean, low, high = np.clip(back(np.array(_interval(there(finite)))), least, most)
        return cls(float(mean), float(low), float(high), len(finite))

    def __str__(self) -> str:
        if self.n == 0:
            return NOTHING
        if self.n == 1:
            return f"{number(self.mean)} (one seed)"
        return f"{self._print(self.mean)} ({self._print(self.low)} to {self._print(self.high)})"

    def _print(self, value: float) -> str:
        """With the mean's decimals, one or two more where the interval needs them, fewer for a larger end."""
        if not (plain(self.mean) and plain(value)):
            return number(value)
        coarse, fine = places(self.mean, 3), places((self.high - self.low) / 2, 1)
        decimals = fine if coarse < fine <= coarse + 2 else min(coarse, places(value, 3) if value else coarse)
        nothing_left = value and abs(value) < 0.5 / 10**decimals
        return number(value, 1) if nothing_left else fixed(value, decimals)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and ends of its 95 % interval, without ends for a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half
