"""Memorisation: are generated images closer to the training images than real ones are?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gans.fidelity.metric import Metric
from gans.fidelity.neighbours import mean

if TYPE_CHECKING:
    from gans.fidelity.comparison import Comparison
    from gans.fidelity.measured import Measured


def measure(compared: Comparison) -> Measured:
    return closer(compared.nearest, compared.real.held_out)


def closer(generated: Tensor, held_out: Tensor) -> Measured:
    """The chance that a generated image lies closer to the training images than a held-out one does.

    From the distances to the nearest training image of generated (n,) and of held-out images (m,), the
    Mann-Whitney statistic behind the data-copying test of Meehan, Chaudhuri and Dasgupta 2020
    (2004.05675), without its division into cells. Fresh real images give 0.5, copies of training images 1;
    less than 0.5 means further from the training images than real ones are. The error takes the held-out
    images as fixed.
    """
    ordered = held_out.sort().values
    farther = len(ordered) - torch.searchsorted(ordered, generated, right=True).double()
    ties = torch.searchsorted(ordered, generated, right=True) - torch.searchsorted(ordered, generated)
    return mean((farther + ties / 2) / len(ordered))


MEMORISATION = Metric(
    "memorisation",
    "→ 0.5",
    "chance to be closer to the training images than held-out ones are; copies: 1",
    measure,
    scale="share",
)
