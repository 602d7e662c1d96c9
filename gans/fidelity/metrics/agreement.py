"""Agreement: does the data's classifier see the class that an image was asked for?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gans.fidelity.measured import Measured
from gans.fidelity.metric import Metric

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison


def measure(compared: Comparison) -> Measured:
    assert compared.asked is not None  # it needs labels
    assert compared.generated.logits is not None
    return agreement(compared.generated.logits.argmax(1).cpu(), compared.asked.labels.cpu())


def agreement(seen: Tensor, asked: Tensor) -> Measured:
    """The share of images whose class as seen (n,) is the one that was asked for (n,), and its binomial error."""
    right = (seen == asked).double()
    classes = {int(label): Measured(*_binomial(right[asked == label])) for label in torch.unique(asked)}
    return Measured(*_binomial(right), classes=classes)


def _binomial(right: Tensor) -> tuple[float, float]:
    share = right.mean().item()
    return share, (share * (1 - share) / len(right)) ** 0.5


# of extractors only that were trained on the data's classes: others do not know what was asked for
AGREEMENT = Metric(
    "agreement",
    "↑",
    "share of images in which the data's classifier sees the class asked for",
    measure,
    needs=frozenset({"logits", "classes", "labels of its classes"}),
    scale="share",
)
