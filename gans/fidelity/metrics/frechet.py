"""Frechet distance of Gaussians fitted to both sets of features, as measured and for infinitely many images.

Heusel et al. 2017 (1706.08500, eq. 6); Chong and Forsyth 2020 (1911.07023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gans.fidelity.metric import Measured, Metric

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison, Features

# dimensions from which on torch-fidelity's eigenvalues of a matrix without symmetry take half a minute
WIDE = 1024


def distance(generated: Features, real: Features) -> float:
    """The value alone, for curves.

    torch-fidelity's own on a CPU. On other devices, and of wide features, by a symmetric eigenvalue problem:
    the same to 1e-6 and better.
    """
    narrow = generated.features.shape[1] < WIDE
    return by_torch_fidelity(generated, real) if narrow and not generated.on_device else symmetric(generated, real)


def by_torch_fidelity(generated: Features, real: Features) -> float:
    """On a CPU, by the eigenvalues of the covariances' product."""
    from torch_fidelity import metric_fid  # seconds to import, and planning needs this metric's name

    values = metric_fid.fid_statistics_to_metric(generated.statistics, real.statistics, verbose=False)
    return values[metric_fid.KEY_METRIC_FID]


def symmetric(generated: Features, real: Features) -> float:
    """On any device, with torch-fidelity's means."""
    return real.gaussian.distance(generated.gaussian, shift=generated.rough_mean - real.rough_mean)


def measure(compared: Comparison) -> Measured:
    return Measured(distance(compared.generated, compared.real), error(compared))


def at_infinity(compared: Comparison) -> Measured:
    return compared.real.gaussian.at_infinity(compared.generated.features, error(compared))


def error(compared: Comparison) -> float:
    """The standard error of the distance over draws of generated images."""
    generated, real = compared.generated, compared.real
    return compared.once(lambda: real.gaussian.error(generated.features, generated.gaussian), "frechet error")


FRECHET = Metric(
    "fd",
    "↓",
    "Fréchet distance of the features' Gaussians; few images bias it upward",
    measure,
    published="fid",
    scale="ratio",
)
FRECHET_INFINITE = Metric(
    "fdinf",
    "↓",
    "the same, extrapolated to infinitely many images; can fall below 0",
    at_infinity,
    published="fidinf",
)
