"""Improved precision (Kynkäänniemi et al. 2019, 1904.06991); see `gans.fidelity.neighbours`."""

from __future__ import annotations

from gans.fidelity.metric import Metric

PRECISION = Metric(
    "precision",
    "↑",
    "share of generated images that lie among real ones",
    lambda compared: compared.neighbourhood.precision,
    scale="share",
)
