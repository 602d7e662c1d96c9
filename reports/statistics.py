"""Means over training seeds and differences between models, with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special, stats

from gans.fidelity.metric import Scale
from reports.numbers import NOTHING, fixed, number, places, plain

LEVEL = 0.95

Map = Callable[[np.ndarray], np.ndarray]
# least and greatest score; what a t-interval is taken of, and the way back, so that it stays between the two
SCALES: dict[Scale, tuple[float, float, Map, Map]] = {
    "ratio": (0, math.inf, np.log, np.exp),
    "share": (0, 1, special.logit, special.expit),
    "signed": (-math.inf, math.inf, np.asarray, np.asarray),
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
        least, most, *_ = SCALES[scale]
        inside = ((finite > least) & (finite < most)).all()
        *_, there, back = SCALES[scale if inside else "signed"]
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


@dataclass(frozen=True)
class Difference:
    """One's scores over the other's, the default's: a ratio of geometric means; below 1 the one is better."""

    ratio: float  # NaN if either has no score
    low: float  # lower end of the 95 % interval of the ratio; NaN with fewer than two seeds on a side
    high: float  # upper end
    p: float  # of a t-test on the logarithms of the scores

    @classmethod
    def of(cls, one: pd.Series, default: pd.Series, comparisons: int = 1) -> Difference:
        """By Welch's t-test, from a score per seed of each, above 0; what is not finite is left out.

        The two share no seeds. Interval and p allow for so many comparisons (Bonferroni).
        """
        a, b = (np.log(values[np.isfinite(values) & (values > 0)].to_numpy(float)) for values in (one, default))
        if not len(a) or not len(b):
            return cls(math.nan, math.nan, math.nan, math.nan)
        if min(len(a), len(b)) < 2:
            return cls(math.exp(a.mean() - b.mean()), math.nan, math.nan, math.nan)
        with np.errstate(all="ignore"):
            return cls._tested(a.mean() - b.mean(), stats.ttest_ind(a, b, equal_var=False), comparisons)

    @classmethod
    def paired(cls, one: pd.Series, other: pd.Series) -> Difference:
        """By the paired t-test; both are indexed by the same training seeds, two or more."""
        a = np.log(one.sort_index().to_numpy(float))
        b = np.log(other.sort_index().to_numpy(float))
        with np.errstate(all="ignore"):
            return cls._tested((a - b).mean(), stats.ttest_rel(a, b), 1)

    @classmethod
    def _tested(cls, mean: float, test: Any, comparisons: int) -> Difference:
        interval = test.confidence_interval(1 - (1 - LEVEL) / comparisons)
        low, high = math.exp(interval.low), float(np.exp(interval.high))
        return cls(math.exp(mean), low, high, min(1.0, float(test.pvalue) * comparisons))

    @property
    def beyond(self) -> bool:
        """Whether the interval excludes 1."""
        return self.high < 1 or self.low > 1

    @property
    def inverse(self) -> Difference:
        """The other's scores over the one's."""
        return Difference(1 / self.ratio, 1 / self.high, 1 / self.low, self.p)

    @property
    def verdict(self) -> str:
        """In words, for the end of a sentence that begins with the one."""
        if not math.isfinite(self.ratio):
            return "has no score to compare"
        if not math.isfinite(self.low):
            return "cannot be compared with the default on one seed"
        if self.beyond:
            return f"is significantly {'better' if self.high < 1 else 'worse'} than the default"
        return f"has the {'lower' if self.ratio < 1 else 'higher'} mean, but not significantly"

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return number(self.ratio)
        return f"{number(self.ratio)} ({number(self.low)} to {number(self.high)})"


def holm(p: Sequence[float]) -> list[float]:
    """p-values that allow for their number (Holm 1979), in the order given; NaN counts for nothing and stays NaN.

    The k-th smallest of m is multiplied by m - k + 1; none is smaller than one before it, nor larger than 1.
    """
    values = np.array(p, dtype=float)
    order = np.argsort(values)[: np.isfinite(values).sum()]  # NaN comes last
    products = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(1.0, np.maximum.accumulate(products))
    return list(map(float, values))
