"""Inception score: certainty of the classifier per image, and diversity of classes (Salimans et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gans.fidelity.metric import Measured, Metric
from gans.fidelity.protocol import ISC_SPLITS, SEED

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison


def measure(compared: Comparison) -> Measured:
    """Mean over ten splits of the images, and its deviation over them; torch-fidelity's own on every device."""
    from torch_fidelity import metric_isc  # seconds to import, and planning needs this metric's name

    found = metric_isc.isc_features_to_metric(compared.generated.logits, ISC_SPLITS, True, SEED)
    spread = found[metric_isc.KEY_METRIC_ISC_STD]
    # NumPy divides by the number of splits: one fewer makes it the error of their mean
    return Measured(found[metric_isc.KEY_METRIC_ISC_MEAN], spread / (ISC_SPLITS - 1) ** 0.5, spread)


INCEPTION_SCORE = Metric(
    "is",
    "↑",
    "Inception score: certain and diverse classes; at most their number",
    measure,
    published="isc",
    needs=frozenset({"logits"}),
    scale="ratio",
)
