"""Whether two sets of training seeds differ by more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """The mean score of one set of seeds minus that of another, the default; below 0 the one is better.

    Attributes:
        mean: NaN if either has no score.
        low: lower end of the simultaneous 95 % interval; NaN with fewer than two seeds on a side.
        high: upper end.
        p: of Welch's t-test, times the number of comparisons (Bonferroni), at most 1.
    """

    mean: float
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, one: pd.Series, default: pd.Series, comparisons: int = 1) -> Difference:
        """Compare two sets of seeds; what is not finite is left out."""
        a, b = (values[np.isfinite(values)].to_numpy(dtype=float) for values in (one, default))
        if not len(a) or not len(b):
            return cls(math.nan, math.nan, math.nan, math.nan)
        mean = float(a.mean() - b.mean())
        if min(len(a), len(b)) < 2:
            return cls(mean, math.nan, math.nan, math.nan)
        with np.errstate(all="ignore"):
            test = stats.ttest_ind(a, b, equal_var=False)
            interval = test.confidence_interval(1 - (1 - LEVEL) / comparisons)
        return cls(mean, float(interval.low), float(interval.high), min(1.0, float(test.pvalue) * comparisons))

    @property
    def beyond(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.high < 0 or self.low > 0

    @property
    def verdict(self) -> str:
        """In words, for the end of a sentence that begins with the one."""
        if not math.isfinite(self.mean):
            return "has no score to compare"
        if not math.isfinite(self.low):
            return "cannot be told from the default by one seed"
        if self.beyond:
            return f"is {'better' if self.high < 0 else 'worse'} than the default, beyond the intervals"
        return f"has the {'lower' if self.mean < 0 else 'higher'} mean, but not beyond the intervals"
