"""From features to numbers with their sampling errors, under the names of `MetricNames`.

The distances and the Inception score are torch-fidelity's; it has no errors, and not the other metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity import metric_fid, metric_isc, metric_kid

from gans.fidelity.extractors.known import Extractor, error_of
from gans.fidelity.frechet import Gaussian, Measured
from gans.fidelity.neighbours import Neighbourhood, memorisation, nearest, neighbourhood

SEED = 2020
ISC_SPLITS = 10
KID_SUBSETS = 100
KID_ANCHORS = 2_000
# time of precision, recall, density and coverage grows with the square of this
PRC_IMAGES = 10_000
RESAMPLINGS = 200
# below it a split of the Inception score would be empty
MINIMUM_IMAGES = ISC_SPLITS

Scores = dict[str, float]
Statistics = dict[str, Any]


@dataclass(frozen=True)
class Features:
    """What an extractor makes of n images, on the CPU: `features` (n, dimensions), `logits` (n, classes)."""

    features: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Real:
    """The real images that generated ones are compared with.

    Attributes:
        features: of the reference images, (m, dimensions).
        statistics: their mean and covariance.
        held_out: distances from images that no training saw to their nearest reference image, (k,).
        classes: share of each class among the reference images, (classes,), as the classifier sees them; None
            if the extractor does not know the data's classes.
    """

    features: Tensor
    statistics: Statistics
    held_out: Tensor
    classes: Tensor | None = None

    @cached_property
    def gaussian(self) -> Gaussian:
        """For errors and extrapolation."""
        return Gaussian.of(self.features)


def settings(extractor: Extractor, n_generated: int, n_reference: int) -> dict[str, Any]:
    """The keyword arguments with which `torch_fidelity.calculate_metrics` gives the same numbers.

    Precision and recall take `PRC_IMAGES` images or fewer; see `among_neighbours`.
    """
    return {
        "isc_splits": ISC_SPLITS,
        "kid_subsets": KID_SUBSETS,
        "kid_subset_size": min(extractor.kid_subset_size, n_generated, n_reference),
        "prc_neighborhood": 3,
        "samples_shuffle": True,
        "rng_seed": SEED,
        "save_cpu_ram": True,
        "verbose": False,
    }


def statistics(features: Tensor) -> Statistics:
    """Mean and covariance of features (n, dimensions)."""
    return metric_fid.fid_features_to_statistics(features)


def frechet(generated: Tensor, real: Statistics) -> float:
    """The Frechet distance of Gaussians fitted to features (n, dimensions): Heusel et al. 2017, eq. 6."""
    values = metric_fid.fid_statistics_to_metric(statistics(generated), real, verbose=False)
    return values[metric_fid.KEY_METRIC_FID]


def among_neighbours(generated: Tensor, real: Tensor) -> Neighbourhood:
    """Precision, recall, density and coverage, on as many real images as generated ones.

    The papers compare sets of one size, and the numbers move with it. Seeded samples are taken of both, since
    either may be sorted by class.
    """
    count = min(len(generated), len(real), PRC_IMAGES)
    return neighbourhood(generated[sample(len(generated), count)], real[sample(len(real), count)])


def kernel_error(generated: Tensor, real: Tensor, subsets: int, size: int) -> float:
    """The standard error of the kernel distance over draws of generated images: the delta method.

    One image x moves the distance of all n images by w(x) / n, w(x) = 2 (mean k(x, X) - mean k(x, Y)). The means
    are over at most `KID_ANCHORS` images of each set, the kernel is (x . y / d + 1)^3: Bińkowski et al. 2018.
    A mean over `subsets` random subsets of `size` m in place of all images adds to the variance var w / n that
    of so many means of m draws without replacement: (var w / m) (1 - m / n) / `subsets`.
    """
    witness = torch.zeros(len(generated), dtype=torch.float64)
    for features, sign in ((generated, 2), (real, -2)):
        anchors = features[sample(len(features), KID_ANCHORS)]
        witness += sign * (generated @ anchors.T / anchors.shape[1] + 1).pow(3).mean(1).double()
    n = len(witness)
    return (witness.std() * ((1 + (n - size) / (subsets * size)) / n) ** 0.5).item()


def class_shares(logits: Tensor) -> Tensor:
    """The share of images, by logits (n, classes), that the classifier gives to each class: (classes,)."""
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).double() / len(logits)


def class_distance(generated: Tensor, real: Tensor, n: int) -> Measured:
    """Total variation distance of class shares (classes,), in [0, 1]; the bootstrap's error at n images.

    0 for equal histograms, 1 for disjoint ones: the share of images that would have to change class.
    """
    drawn = np.random.default_rng(SEED).multinomial(n, generated.numpy(), size=RESAMPLINGS) / n
    spread = np.abs(drawn - real.numpy()).sum(1) / 2
    return Measured((generated - real).abs().sum().item() / 2, float(spread.std(ddof=1)))


def compare(extractor: Extractor, generated: Features, real: Real) -> Scores:
    """Every metric of generated images against real ones with its error, by the extractor's names."""
    names, options = extractor.metrics, settings(extractor, len(generated.features), len(real.features))
    kernel = metric_kid.kid_features_to_metric(generated.features, real.features, **options)
    inception = metric_isc.isc_features_to_metric(generated.logits, ISC_SPLITS, True, SEED)
    around = among_neighbours(generated.features, real.features)
    distance = Measured(frechet(generated.features, real.statistics), real.gaussian.error(generated.features))
    spread = inception[metric_isc.KEY_METRIC_ISC_STD]
    measured = {
        names.frechet: distance,
        names.frechet_infinite: real.gaussian.at_infinity(generated.features, distance.error),
        names.kernel: Measured(
            kernel[metric_kid.KEY_METRIC_KID_MEAN],
            kernel_error(generated.features, real.features, options["kid_subsets"], options["kid_subset_size"]),
        ),
        # NumPy divides by the number of splits: one fewer makes it the error of their mean
        names.inception_score: Measured(
            inception[metric_isc.KEY_METRIC_ISC_MEAN], spread / (ISC_SPLITS - 1) ** 0.5
        ),
        names.precision: around.precision,
        names.recall: around.recall,
        names.density: around.density,
        names.coverage: around.coverage,
        names.memorisation: memorisation(nearest(generated.features, real.features)[0], real.held_out),
    }
    if real.classes is not None:
        shares = class_shares(generated.logits)
        measured[names.class_distance] = class_distance(shares, real.classes, len(generated.logits))
    values = {name: one.value for name, one in measured.items()}
    spreads = {names.kernel_std: kernel[metric_kid.KEY_METRIC_KID_STD], names.inception_score_std: spread}
    return values | spreads | {error_of(name): one.error for name, one in measured.items()}


def sample(total: int, count: int) -> Tensor:
    """`count` of the indices 0 .. total - 1, in ascending order: the same ones every time."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))
    return order[:count].sort().values
