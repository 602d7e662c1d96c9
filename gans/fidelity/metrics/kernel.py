"""Kernel distance: unbiased squared maximum mean discrepancy of a cubic kernel.

Bińkowski et al. 2018 (1801.01401).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gans.fidelity.comparison import sample
from gans.fidelity.metric import Measured, Metric
from gans.fidelity.protocol import KID_SUBSETS, SEED

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison

ANCHORS = 2_000  # images behind the means of the standard error


def measure(compared: Comparison) -> Measured:
    """Mean over random subsets of both sides, and its deviation over them."""
    generated, real, size = compared.generated.features, compared.real.features, compared.subset_size
    means = on_device if compared.generated.on_device else by_torch_fidelity
    value, spread = means(generated, real, KID_SUBSETS, size)
    return Measured(value, error(generated, real, KID_SUBSETS, size), spread)


def by_torch_fidelity(generated: Tensor, real: Tensor, subsets: int, size: int) -> tuple[float, float]:
    """Mean and deviation, in NumPy's float32 on a CPU."""
    from torch_fidelity import metric_kid  # seconds to import, and planning needs this metric's name

    found = metric_kid.kid_features_to_metric(
        generated, real, kid_subsets=subsets, kid_subset_size=size, rng_seed=SEED, verbose=False
    )
    return found[metric_kid.KEY_METRIC_KID_MEAN], found[metric_kid.KEY_METRIC_KID_STD]


def on_device(generated: Tensor, real: Tensor, subsets: int, size: int) -> tuple[float, float]:
    """The same on the features' device, in float64, over the very subsets that torch-fidelity draws."""
    draws = np.random.RandomState(SEED)
    found = []
    for _ in range(subsets):
        x, y = (
            features[torch.from_numpy(draws.choice(len(features), size, replace=False))].double()
            for features in (generated, real)
        )
        found.append(_off_diagonal_mean(x) + _off_diagonal_mean(y) - 2 * cubic(x, y).mean())
    distances = torch.stack(found)
    return distances.mean().item(), distances.std(correction=0).item()


def _off_diagonal_mean(x: Tensor) -> Tensor:
    kernel, n = cubic(x, x), len(x)
    return (kernel.sum() - kernel.trace()) / (n * (n - 1))


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / d + 1)^3 for all pairs of rows of x (n, d) and y (m, d): (n, m)."""
    return (x @ y.T / y.shape[1] + 1).pow(3)


def error(generated: Tensor, real: Tensor, subsets: int, size: int) -> float:
    """The standard error of the kernel distance over draws of generated images: the delta method.

    One image x moves the distance of all n images by w(x) / n, w(x) = 2 (mean k(x, X) - mean k(x, Y)). The means
    are over at most `ANCHORS` images of each set.
    A mean over `subsets` random subsets of `size` m in place of all images adds to the variance var w / n that
    of so many means of m draws without replacement: (var w / m) (1 - m / n) / `subsets`.
    """
    witness = torch.zeros(len(generated), dtype=torch.float64, device=generated.device)
    for features, sign in ((generated, 2), (real, -2)):
        witness += sign * cubic(generated, features[sample(len(features), ANCHORS)]).mean(1).double()
    n = len(witness)
    return (witness.std() * ((1 + (n - size) / (subsets * size)) / n) ** 0.5).item()


KERNEL = Metric(
    "kd", "↓", "kernel distance: cubic kernel, unbiased, so it can fall below 0", measure, published="kid"
)
