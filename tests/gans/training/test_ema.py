import pytest
import torch
from torch import nn

from gans.compute import precision
from gans.models import build_generator
from gans.models.layers import Shape
from gans.registry import MODELS
from gans.training.ema import EMA
from tests.conftest import networks

pytestmark = pytest.mark.usefixtures("one_thread")


def follow(ema: EMA, images: int, step: int) -> None:
    ema.prepare(images, step)
    ema.update()


@pytest.mark.parametrize("on_cuda", [False, True])
def test_the_ramp_up_against_a_plain_recurrence(on_cuda: bool, monkeypatch) -> None:
    """Half-life = min(halflife, 5 % of the images seen), which is EDM2's reference code."""
    monkeypatch.setattr(precision, "by_launches", lambda device: on_cuda)
    module = nn.Linear(1, 1, bias=False).double()
    ema = EMA(module, halflife_kimg=0.5)
    average = module.weight.item()
    for i, target in enumerate(torch.randn(60, generator=torch.Generator().manual_seed(0)).tolist()):
        nn.init.constant_(module.weight, target)
        images = (i + 1) * 300
        follow(ema, images, step=300)
        kept = 0.5 ** (300 / min(500.0, 0.05 * images))
        average = kept * average + (1 - kept) * target
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
