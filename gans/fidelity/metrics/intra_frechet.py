"""Frechet distance within each class, and its mean: intra FID (Miyato and Koyama 2018, 1802.05637)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from gans.fidelity.comparison import Comparison, Features
from gans.fidelity.measured import Measured
from gans.fidelity.metric import Metric
from gans.fidelity.metrics import frechet

# of a class on either side: below it a covariance says little
FEWEST = 20


def measure(compared: Comparison) -> Measured:
    """The mean over the classes that have images enough; NaN if none has."""
    assert compared.asked is not None  # it needs labels
    assert compared.real.labels is not None
    asked, own = compared.asked.labels.to(compared.real.labels.device), compared.real.labels
    generated, real = compared.generated.features, compared.real.features
    return average(
        {label: distance(generated[asked == label], real[own == label]) for label in enough(asked, own)}
    )


def enough(asked: Tensor, own: Tensor) -> list[int]:
    """The classes of which both have `FEWEST` images, by the labels of generated (n,) and of real ones (m,)."""
    size = int(own.max()) + 1
    fewer = asked.bincount(minlength=size)[:size].minimum(own.bincount())
    return (fewer >= FEWEST).nonzero().flatten().tolist()


def distance(generated: Tensor, real: Tensor) -> Measured:
    """The Frechet distance and its error, of features (n, dimensions) and (m, dimensions)."""
    one, other = Features(generated), Features(real)
    return Measured(frechet.distance(one, other), other.gaussian.error(generated, one.gaussian))


def average(classes: Mapping[int, Measured]) -> Measured:
    """The mean of the classes' values, each weighed alike; their images are drawn independently."""
    if not classes:
        return Measured(float("nan"), float("nan"))
    values, errors = np.array([(one.value, one.error) for one in classes.values()]).T
    return Measured(float(values.mean()), float((errors**2).sum() ** 0.5 / len(errors)), classes=classes)


INTRA_FRECHET = Metric(
    "intra_fd",
    "↓",
    "Fréchet distance within each class, mean over classes; more biased than the whole's",
    measure,
    published="intra_fid",
    needs=frozenset({"labels"}),
    scale="ratio",
)
