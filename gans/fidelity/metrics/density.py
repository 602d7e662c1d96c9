"""Density (Naeem et al. 2020, 2002.09797); see `gans.fidelity.neighbours`."""

from __future__ import annotations

from gans.fidelity.metric import Metric

DENSITY = Metric(
    "density",
    "↑",
    "real neighbourhoods a generated image lies in; about 1 for real images",
    lambda compared: compared.neighbourhood.density,
    scale="ratio",
)
