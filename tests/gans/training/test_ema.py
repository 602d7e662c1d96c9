import copy

import pytest
import torch
from torch import nn

from gans.models import build_generator
from gans.models.layers import Shape
from gans.registry import MODELS
from gans.training.ema import EMA
from tests.conftest import networks

pytestmark = pytest.mark.usefixtures("one_thread")


def follow(ema: EMA, images: int, step: int) -> None:
    ema.prepare(images, step)
    ema.update()


class Scalar(nn.Module):
    """One weight and one counter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


def set_to(module: Scalar, value: float) -> None:
    with torch.no_grad():
        module.weight.fill_(value)


def test_the_ramp_up_against_a_plain_recurrence() -> None:
    """Half-life = min(halflife, 5 % of the images seen), which is EDM2's reference code."""
    module = Scalar(4.0)
    ema = EMA(module, halflife_kimg=0.5)
    average, targets = 4.0, torch.randn(60, generator=torch.Generator().manual_seed(0)).tolist()
    for i, target in enumerate(targets):
        set_to(module, target)
        images = (i + 1) * 300
        follow(ema, images, step=300)
        kept = 0.5 ** (300 / min(500.0, 0.05 * images))
        average = kept * average + (1 - kept) * torch.tensor(target).item()
        assert ema.generator.weight.item() == pytest.approx(average, rel=1e-6)
    # the last weights are past the ramp: 0.05 * 18,000 > 500
    assert ema.decay(18_000, 300) == 0.5 ** (300 / 500)


@pytest.mark.parametrize("name", MODELS)
def test_half_life_0_copies_and_buffers_are_always_copied(name: str) -> None:
    network = build_generator(Shape(1, 16), networks(name=name, latent=8, width=8), seed=0)
    copies, trails = EMA(network, 0.0), EMA(network, 1000.0)
    for _ in range(3):
        network(torch.randn(4, 8))  # moves BatchNorm's and spectral norm's buffers
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += torch.randn_like(parameter)
    follow(copies, 10_000, 64)
    follow(trails, 10_000, 64)
    trained = network.state_dict()
    parameters = dict(network.named_parameters())
    for key, value in copies.state().items():
        assert torch.equal(value, trained[key]), key
    for key, value in trails.state().items():
        assert torch.equal(value, trained[key]) == (key not in parameters), key


def test_the_average_is_a_frozen_copy_in_eval_mode() -> None:
    network = build_generator(Shape(1, 16), networks(name="dcgan", latent=8, width=8), seed=0)
    ema = EMA(network, 10.0)
    assert not ema.generator.training
    assert not any(p.requires_grad for p in ema.generator.parameters())
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    before = copy.deepcopy(ema.state())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in ema.state().items())


def test_state_and_load_round_trip() -> None:
    config = networks(name="sagan", latent=8, width=8)
    ema = EMA(build_generator(Shape(1, 16), config, seed=0), 10.0)
    other = EMA(build_generator(Shape(1, 16), config, seed=1), 10.0)
    other.load(ema.state())
    assert all(torch.equal(value, ema.state()[key]) for key, value in other.state().items())
    # loading keeps the tensors that `update` writes to
    trained = [p.detach().clone() for p in other.trained]
    for _ in range(200):
        follow(other, 10**6, 10**5)
    for average, target in zip(other.generator.parameters(), trained, strict=True):
        assert torch.allclose(average, target, atol=1e-6)
