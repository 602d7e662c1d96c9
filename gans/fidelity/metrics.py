"""From features to numbers, by torch-fidelity's own functions and under the names of `MetricNames`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

from gans.fidelity.extractors import Extractor

SEED = 2020
ISC_SPLITS = 10
KID_SUBSETS = 100
# time and memory of precision and recall grow with the square of this
PRC_IMAGES = 10_000
# below it a split of the Inception score would be empty
MINIMUM_IMAGES = ISC_SPLITS

Scores = dict[str, float]
Statistics = dict[str, Any]


@dataclass(frozen=True)
class Features:
    """What an extractor makes of n images, on the CPU: `features` (n, dimensions), `logits` (n, classes)."""

    features: Tensor
    logits: Tensor


def settings(extractor: Extractor, n_generated: int, n_reference: int) -> dict[str, Any]:
    """The keyword arguments with which `torch_fidelity.calculate_metrics` gives the same numbers.

    Precision and recall take `PRC_IMAGES` images or fewer; see `precision_recall`.
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


def precision_recall(generated: Tensor, real: Tensor, options: dict[str, Any]) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019), on as many real images as generated ones.

    The paper compares sets of one size, and both numbers move with it. The first generated images are
    taken and a seeded sample of the real ones, since a data set may be sorted by class.
    """
    count = min(len(generated), len(real), PRC_IMAGES)
    values = metric_prc.prc_features_to_metric(generated[:count], real[sample(len(real), count)], **options)
    return values[metric_prc.KEY_METRIC_PRECISION], values[metric_prc.KEY_METRIC_RECALL]


def compare(extractor: Extractor, generated: Features, real: Tensor, real_statistics: Statistics) -> Scores:
    """Every metric of generated features against real ones (m, dimensions), by the extractor's names."""
    names, options = extractor.metrics, settings(extractor, len(generated.features), len(real))
    kernel = metric_kid.kid_features_to_metric(generated.features, real, **options)
    inception = metric_isc.isc_features_to_metric(generated.logits, ISC_SPLITS, True, SEED)
    precision, recall = precision_recall(generated.features, real, options)
    return {
        names.frechet: frechet(generated.features, real_statistics),
        names.kernel: kernel[metric_kid.KEY_METRIC_KID_MEAN],
        names.kernel_std: kernel[metric_kid.KEY_METRIC_KID_STD],
        names.inception_score: inception[metric_isc.KEY_METRIC_ISC_MEAN],
        names.inception_score_std: inception[metric_isc.KEY_METRIC_ISC_STD],
        names.precision: precision,
        names.recall: recall,
    }


def sample(total: int, count: int) -> Tensor:
    """`count` of the indices 0 .. total - 1, in ascending order: the same ones every time."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(SEED))
    return order[:count].sort().values
