"""Frechet distance for infinitely many images: without its bias (Chong and Forsyth 2020, 1911.07023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gans.fidelity.metric import Metric

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison
    from gans.fidelity.measured import Measured


def measure(compared: Comparison) -> Measured:
    return compared.real.gaussian.at_infinity(compared.generated.features, compared.distance_error)


FRECHET_INFINITE = Metric(
    "fdinf", "↓", "the same, extrapolated to infinitely many images; may fall below 0", measure, published="fidinf"
)
