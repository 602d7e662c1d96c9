"""Coverage (Naeem et al. 2020, 2002.09797); see `gans.fidelity.neighbours`."""

from __future__ import annotations

from gans.fidelity.metric import Metric

COVERAGE = Metric(
    "coverage",
    "↑",
    "share of real images with a generated one in their neighbourhood",
    lambda compared: compared.neighbourhood.coverage,
    scale="share",
)
