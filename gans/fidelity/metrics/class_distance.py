"""Class distance: how far the classes' shares among generated images are from those among real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from gans.fidelity.measured import Measured
from gans.fidelity.metric import Metric
from gans.fidelity.protocol import SEED

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison

RESAMPLINGS = 200


def measure(compared: Comparison) -> Measured:
    assert compared.real.classes is not None  # the extractor knows them
    return variation(compared.classes.cpu(), compared.real.classes.cpu(), len(compared.generated))


def variation(generated: Tensor, real: Tensor, n: int) -> Measured:
    """Total variation distance of class shares (classes,), in [0, 1]; the bootstrap's error at n images.

    0 for equal histograms, 1 for disjoint ones: the share of images that would have to change class.
    """
    drawn = np.random.default_rng(SEED).multinomial(n, generated.numpy(), size=RESAMPLINGS) / n
    spread = np.abs(drawn - real.numpy()).sum(1) / 2
    return Measured((generated - real).abs().sum().item() / 2, float(spread.std(ddof=1)))


# of extractors only that were trained on the data's classes: Inception does not know them
CLASS_DISTANCE = Metric(
    "class_distance",
    "↓",
    "share of images that would have to change class for the data's balance",
    measure,
    needs=frozenset({"logits", "classes"}),
    scale="share",
)
