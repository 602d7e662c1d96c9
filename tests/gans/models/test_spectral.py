"""Our spectral norm is torch's: to the bit a layer at a time, to rounding all at once."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gans.compute import precision
from gans.models import build_discriminator
from gans.models.layers import Shape
from gans.models.spectral import iterate_ahead, join_iterations, spectral_norm
from tests.conftest import networks

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = Shape(1, 16)


def layers(norm: Callable[[Any], nn.Module], dtype: torch.dtype, seed: int = 0) -> nn.Sequential:
    """A network of tall, wide and square weights: (n, 3, 8, 8) -> (n, 2)."""
    torch.manual_seed(seed)
    convolutions = [norm(nn.Conv2d(3, 6, 3, padding=1, dtype=dtype)), norm(nn.Conv2d(6, 6, 1, dtype=dtype))]
    linear = [norm(nn.Linear(6 * 64, 7, dtype=dtype)), norm(nn.Linear(7, 2, dtype=dtype))]
    return nn.Sequential(
        convolutions[0], nn.Tanh(), convolutions[1], nn.Flatten(), linear[0], nn.Tanh(), linear[1]
    )


def trained(network: nn.Module, dtype: torch.dtype, before: Callable[[], None] = lambda: None) -> list[Tensor]:
    """Outputs, gradients and state of some steps, two forward passes each, and of a pass in eval mode."""
    rng = torch.Generator().manual_seed(1)
    seen: list[Tensor] = []
    parameters = list(network.parameters())
    for _ in range(6):
        images = torch.randn(2, 4, 3, 8, 8, generator=rng, dtype=dtype)
        outputs = []
        for x in images:
            before()
            outputs.append(network(x))
        gradients = torch.autograd.grad(torch.stack(outputs).square().sum(), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.05 * gradient
        seen += [*outputs, *gradients, *(value.clone() for value in network.state_dict().values())]
    return [*seen, network.eval()(images[0])]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_at_a_time_it_is_torchs_to_the_bit(dtype: torch.dtype, layout: torch.memory_format) -> None:
    """Keys and initial vectors too, from as many random numbers."""
    ours = layers(spectral_norm, dtype)
    after = torch.get_rng_state()
    theirs = layers(parametrizations.spectral_norm, dtype)
    assert torch.equal(torch.get_rng_state(), after)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for network in (ours, theirs):
        network.to(memory_format=layout)
    found, expected = trained(ours, dtype), trained(theirs, dtype)
    assert len(found) == len(expected) > 100
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 2e-5), (torch.float64, 1e-13)])
def test_all_at_once_it_is_torchs_to_rounding(
    dtype: torch.dtype, rounding: float, layout: torch.memory_format, monkeypatch
) -> None:
    """Outputs, gradients, weights and vectors over several steps, each of two passes before one backward pass."""
    # seed 0's descent enlarges rounding: with sums element by element, as on a CPU, to 2.7e-5 in float32
    ours, theirs = (layers(norm, dtype, seed=1) for norm in (spectral_norm, parametrizations.spectral_norm))
    for network in (ours, theirs):
        network.to(memory_format=layout)
    monkeypatch.setattr(precision, "by_launches", lambda device: True)
    join_iterations(ours)
    found = trained(ours, dtype, before=lambda: iterate_ahead(ours))
    expected = trained(theirs, dtype)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=rounding, atol=rounding)


def test_an_iteration_ahead_is_of_one_use_and_of_training(monkeypatch) -> None:
    monkeypatch.setattr(precision, "by_launches", lambda device: True)
    network, alone = (layers(spectral_norm, torch.float64) for _ in range(2))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    join_iterations(network)
    for _ in range(2):  # the second pass has nothing ready and iterates by itself
        alone(x)
    iterate_ahead(network)
    network(x), network(x)
    for key, value in network.state_dict().items():
        assert torch.allclose(value, alone.state_dict()[key], rtol=1e-12, atol=1e-12), key
    vectors = {key: value.clone() for key, value in network.named_buffers()}
    iterate_ahead(network.eval())
    assert all(torch.equal(value, vectors[key]) for key, value in network.named_buffers())
    assert torch.equal(copy.deepcopy(network)(x), network(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_they_are_those_of_the_cpu() -> None:
    config = networks(name="sagan", latent=8, width=8)
    one, other = (build_discriminator(SHAPE, config, 0) for _ in range(2))
    join_iterations(other.cuda())
    images = torch.randn(4, 1, 16, 16)
    for _ in range(5):
        one(images), other(images.cuda())
    for key, value in one.state_dict().items():
        assert torch.allclose(value, other.state_dict()[key].cpu(), rtol=1e-3, atol=1e-4), key
