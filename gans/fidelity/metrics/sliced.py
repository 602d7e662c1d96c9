"""Sliced Wasserstein distance: the mean over directions of one-dimensional ones. Bonneel et al. 2015."""

import torch
from torch import Tensor

from gans.fidelity.comparison import Comparison, sample
from gans.fidelity.metric import Measured, Metric
from gans.fidelity.protocol import SEED

DIRECTIONS, PART = 1_000, 50  # in all, and at a time, for memory


def measure(compared: Comparison) -> Measured:
    """Of as many real images as generated ones."""
    generated, real = compared.generated.features, compared.real.features
    count = min(len(generated), len(real))
    return distance(generated[sample(len(generated), count)], real[sample(len(real), count)])


def distance(generated: Tensor, real: Tensor) -> Measured:
    """The square root of the mean squared 2-Wasserstein distance of features (n, d), both on random lines.

    The error is the delta method's: one image moves the squared distance on a line by its Kantorovich potential
    over n, the integral of 2 (t - T(t)), T the optimal map to the real images.
    """
    generated, real = generated.double(), real.double()
    rng = torch.Generator().manual_seed(SEED)
    lines = torch.randn(DIRECTIONS, generated.shape[1], generator=rng, dtype=torch.float64)
    square, potential = 0.0, torch.zeros(len(generated), dtype=torch.float64, device=generated.device)
    for part in torch.nn.functional.normalize(lines).to(generated.device).split(PART):
        places, order = (generated @ part.T).sort(0)
        gaps = places - (real @ part.T).sort(0).values
        square += gaps.square().mean(0).sum().item() / DIRECTIONS
        rises = (places.diff(dim=0) * (gaps[1:] + gaps[:-1])).cumsum(0)
        rises = torch.cat([torch.zeros_like(rises[:1]), rises])
        potential += torch.zeros_like(rises).scatter(0, order, rises).sum(1) / DIRECTIONS
    value = square**0.5
    return Measured(value, (potential.std() / len(potential) ** 0.5).item() / (2 * value) if value else 0.0)


SLICED_WASSERSTEIN = Metric(
    "sw", "↓", "sliced Wasserstein distance of the features, over 1,000 directions", measure, scale="ratio"
)
