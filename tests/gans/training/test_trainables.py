"""Optimisers have the settings of the experiment."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop

from gans.training.updates import Trainable

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, LR = 5, 0.01


def drawn() -> tuple[nn.Linear, list[list[Tensor]]]:
    """A layer in float64, and gradients of its weight and bias for some steps."""
    rng = torch.Generator().manual_seed(0)
    network = nn.Linear(5, 3).double()
    gradients = [
        [torch.randn(p.shape, generator=rng).double() for p in network.parameters()] for _ in range(STEPS)
    ]
    return network, gradients


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({}, lambda p: Adam(p, LR, (0.5, 0.999), foreach=False)),
        ({"name": "adam", "beta1": 0.0, "beta2": 0.9}, lambda p: Adam(p, LR, (0.0, 0.9), foreach=False)),
        ({"name": "sgd"}, lambda p: SGD(p, LR)),
        ({"name": "sgd", "momentum": 0.7, "alpha": 0.3}, lambda p: SGD(p, LR, momentum=0.7)),
        ({"name": "rmsprop"}, lambda p: RMSprop(p, LR, 0.99)),
        ({"name": "rmsprop", "alpha": 0.8, "momentum": 0.3}, lambda p: RMSprop(p, LR, 0.8)),
    ],
)
def test_an_optimiser_is_torchs_with_its_own_settings(settings, plain, tiny) -> None:
    """A setting of another optimiser changes nothing."""
    network, gradients = drawn()
    trainable, optimizer = (
        Trainable(copy.deepcopy(network), LR, tiny(optimizer=settings)),
        plain(network.parameters()),
    )
    for step in gradients:
        trainable.apply([gradient.clone() for gradient in step])
        for parameter, gradient in zip(network.parameters(), step, strict=True):
            parameter.grad = gradient
        optimizer.step()
    for found, expected in zip(trainable.parameters, network.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)
