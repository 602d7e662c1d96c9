"""How numbers are printed, and what intervals and differences are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from reports import numbers
from reports.statistics import Difference, Estimate, holm

PRINTED: dict[Callable[[Any], str], dict[Any, str]] = {
    numbers.number: {
        **{12.345: "12.3", 0.012345: "0.0123", 0.00045: "0.000450", 1234.5: "1,234", 12700: "12,700", 0.0: "0"},
        **{1234567.0: "1,234,567", -0.00004: "-4.00 × 10⁻⁵", 1.2e30: "1.20 × 10³⁰", math.nan: "—", math.inf: "—"},
    },
    numbers.images: {
        1_500_000: "1.5 million",
        3_000_100: "3 million",
        999_999: "1 million",
        50_000: "50,000",
        6_016: "6,020",
        math.nan: "—",
    },
    numbers.duration: {0.42: "0.420 s", 12.9: "12.9 s", 59.7: "1 min 0 s", 200: "3 min 20 s", 7_500: "2 h 5 min"},
    numbers.setting: {"10.0": "10", "0.5": "0.5", "0.0002": "0.0002", "3000.1": "3,000.1", "inf": "inf", "a": "a"},
    numbers.listed: {(): "", ("a",): "a", ("a", "b"): "a and b", ("a", "b", "c"): "a, b and c"},
}


@pytest.mark.parametrize(
    ("write", "value", "printed"),
    [(write, value, text) for write, values in PRINTED.items() for value, text in values.items()],
)
def test_values_in_print(write: Callable[[Any], str], value: Any, printed: str) -> None:
    assert write(value) == printed


# --- intervals


@pytest.mark.parametrize(
    ("values", "printed"),
    [
        ([12.0, 12.0, 12.0], "12.0 (12.0 to 12.0)"),
        ([1234.5, 1235.5], "1,235 (1,229 to 1,241)"),
        ([12.345, 12.346], "12.345 (12.339 to 12.352)"),
        ([0.3, 0.4, 0.9], "0.476 (0.116 to 1.96)"),
        ([1e30, 2e30], "1.41 × 10³⁰ (1.73 × 10²⁸ to 1.16 × 10³²)"),
        ([5.0, math.nan], "5.00 (one seed)"),
        ([], "—"),
    ],
)
def test_estimate_in_print(values: list[float], printed: str) -> None:
    assert str(Estimate.of(pd.Series(values, dtype=float))) == printed


def test_a_signed_score_has_the_interval_by_hand() -> None:
    estimate = Estimate.of(pd.Series([1.0, 2.0, 3.0]), "signed")
    # t(2, 0.975) = 4.303 from printed tables, standard error 1 / sqrt(3)
    half = pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert (estimate.mean, estimate.mean - estimate.low, estimate.high - estimate.mean) == (2.0, half, half)
    assert Estimate.of(pd.Series([-1.0, 0.5, 0.1]), "signed").low < -1


def test_no_interval_leaves_where_its_score_can_lie() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        wide = pd.Series(np.exp(rng.normal(0, 3, size=2)))
        low_high = Estimate.of(wide)
        assert 0 < low_high.low <= low_high.mean <= low_high.high
        share = Estimate.of(pd.Series(rng.uniform(size=2)), "share")
        assert 0 <= share.low <= share.mean <= share.high <= 1
    assert Estimate.of(pd.Series([0.0, 0.5]), "share").low == 0  # no logit of 0: cut off
    assert Estimate.of(pd.Series([0.0, 0.5])).low == 0


# --- differences


def test_holm_by_hand() -> None:
    # Holm (1979): 0.01 x 4, 0.02 x 3, 0.03 x 2 raised to what is before it, 0.04
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    found = holm([math.nan, 0.02])
    assert math.isnan(found[0]) and found[1] == 0.02


@pytest.mark.parametrize("comparisons", [1, 3])
def test_a_difference_is_a_ratio_by_welch_on_logarithms_corrected_for_their_number(comparisons: int) -> None:
    one, other = pd.Series([6.0, 6.5, 7.0, math.nan]), pd.Series([8.0, 8.4, 7.9, 9.0])
    found, one = Difference.of(one, other, comparisons), one.dropna()
    welch = stats.ttest_ind(np.log(one), np.log(other), equal_var=False)
    assert found.ratio == pytest.approx(stats.gmean(one) / stats.gmean(other))
    interval = welch.confidence_interval(1 - 0.05 / comparisons)
    assert [found.low, found.high] == pytest.approx(list(np.exp(interval)))
    assert found.p == comparisons * welch.pvalue
    back = found.inverse
    assert [back.ratio, back.low, back.high] == pytest.approx([1 / found.ratio, 1 / found.high, 1 / found.low])


def test_paired_differences_go_seed_by_seed() -> None:
    one = pd.Series([6.0, 9.0, 3.0], index=[2, 0, 1])
    other = pd.Series([10.0, 3.6, 6.6], index=[0, 1, 2])
    found = Difference.paired(one, other)
    logs = np.log([9 / 10, 3 / 3.6, 6 / 6.6])
    half = stats.t(2).ppf(0.975) * logs.std(ddof=1) / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(logs.mean()))
    assert found.high / found.ratio == pytest.approx(math.exp(half))
    assert found.p == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
