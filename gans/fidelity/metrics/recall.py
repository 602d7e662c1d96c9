"""Improved recall (Kynkäänniemi et al. 2019, 1904.06991); see `gans.fidelity.neighbours`."""

from __future__ import annotations

from gans.fidelity.metric import Metric

RECALL = Metric(
    "recall",
    "↑",
    "share of real images that lie among generated ones",
    lambda compared: compared.neighbourhood.recall,
    scale="share",
)
