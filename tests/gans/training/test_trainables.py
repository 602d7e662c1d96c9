"""Optimisers against their published formulae, written out."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

from gans.training.trainables import Trainable

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, LR, EPSILON = 5, 0.01, 1e-8


def drawn() -> tuple[nn.Linear, list[list[Tensor]]]:
    """A layer in float64, and gradients of its weight and bias for some steps."""
    rng = torch.Generator().manual_seed(0)
    network = nn.Linear(5, 3).double()
    gradients = [
        [torch.randn(p.shape, generator=rng).double() for p in network.parameters()] for _ in range(STEPS)
    ]
    return network, gradients


def adam(w: Tensor, gradients: list[Tensor], beta1: float, beta2: float) -> Tensor:
    """Kingma & Ba 2015, algorithm 1."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        w = w - LR * (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + EPSILON)
    return w


def sgd(w: Tensor, gradients: list[Tensor], momentum: float) -> Tensor:
    """v <- momentum v + g; w <- w - lr v (Sutskever et al. 2013, in torch's form)."""
    v = torch.zeros_like(w)
    for g in gradients:
        v = momentum * v + g
        w = w - LR * v
    return w


def rmsprop(w: Tensor, gradients: list[Tensor], alpha: float) -> Tensor:
    """Tieleman & Hinton 2012: s <- alpha s + (1 - alpha) g^2; w <- w - lr g / (sqrt(s) + epsilon)."""
    s = torch.zeros_like(w)
    for g in gradients:
        s = alpha * s + (1 - alpha) * g**2
        w = w - LR * g / (s.sqrt() + EPSILON)
    return w


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({}, lambda w, g: adam(w, g, 0.5, 0.999)),
        ({"name": "adam", "beta1": 0.0, "beta2": 0.9}, lambda w, g: adam(w, g, 0.0, 0.9)),
        ({"name": "sgd"}, lambda w, g: sgd(w, g, 0.0)),
        ({"name": "sgd", "momentum": 0.7, "alpha": 0.3}, lambda w, g: sgd(w, g, 0.7)),
        ({"name": "rmsprop"}, lambda w, g: rmsprop(w, g, 0.99)),
        ({"name": "rmsprop", "alpha": 0.8, "momentum": 0.3}, lambda w, g: rmsprop(w, g, 0.8)),
    ],
)
def test_optimisers_do_what_their_formulae_say(settings, formula, tiny) -> None:
    """A setting of another optimiser changes nothing."""
    network, gradients = drawn()
    trainable = Trainable(copy.deepcopy(network), LR, tiny(optimizer=settings))
    for step in gradients:
        trainable.apply([gradient.clone() for gradient in step])
    for i, parameter in enumerate(network.parameters()):
        expected = formula(parameter.detach(), [step[i] for step in gradients])
        assert torch.allclose(trainable.parameters[i], expected, rtol=1e-10, atol=1e-12)
        assert not torch.allclose(trainable.parameters[i], parameter, atol=1e-4)


@pytest.mark.parametrize("settings", [{"name": "adam"}, {"name": "rmsprop"}, {"name": "sgd", "momentum": 0.9}])
def test_a_network_that_a_graph_trained_goes_on_without_one(settings, tiny) -> None:
    """Optimisers that count steps on the device for a graph count them again as usual, and do not warn."""
    network, gradients = drawn()
    one, other = (Trainable(copy.deepcopy(network), LR, tiny(optimizer=settings)) for _ in range(2))
    one.apply(gradients[0])
    one.count_on_device(True)
    flags = [group.get("capturable") for group in one.optimizer.param_groups]
    assert flags == ([None] if settings["name"] == "sgd" else [True])
    other.load(copy.deepcopy(one.state()))
    one.count_on_device(False)
    assert [group.get("capturable") for group in other.optimizer.param_groups] in ([None], [False])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for trainable in (one, other):
            trainable.apply([gradient.clone() for gradient in gradients[1]])
    assert all(torch.equal(p, q) for p, q in zip(one.parameters, other.parameters, strict=True))
