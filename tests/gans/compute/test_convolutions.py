"""Convolutions with a weight gradient of their own give what torch's give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gans.compute import convolutions, precision
from gans.models.layers import Shape
from gans.registry import MODELS, RULES
from gans.training.updates import Context
from tests.conftest import networks

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS = {"halve": nn.Conv2d, "double": nn.ConvTranspose2d}


def maps(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("side", "channels"), [(4, 3), (8, 5), (2, 1)])
def test_the_weight_gradient_is_torchs(side: int, channels: int) -> None:
    """In float64, by torch.nn.grad; of both kinds of convolution."""
    large, small = maps(2, channels, 2 * side, 2 * side), maps(2, 7, side, side, seed=1)
    found = convolutions.weight_gradient(large, small)
    expected = torch.nn.grad.conv2d_weight(large, (7, channels, 4, 4), small, stride=2, padding=1)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bias", [False, True])
def test_all_gradients_and_theirs_are_numerically_right(kind: str, bias: bool, monkeypatch) -> None:
    """First and second order against differences, in float64: what a gradient penalty rests on."""
    monkeypatch.setattr(convolutions, "_lowered", lambda *tensors: list(tensors))
    monkeypatch.setattr(convolutions, "pays", lambda *_: True)
    layer = LAYERS[kind](2, 3, 4, 2, 1, bias=bias).double()
    forward = convolutions.by_product(layer)
    x = maps(2, 2, 4, 4).requires_grad_()

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        layer.weight, layer.bias = parameters[0], parameters[1] if bias else None
        return forward(layer, x)

    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    for name in ("weight", "bias"):
        layer._parameters.pop(name)
    assert torch.autograd.gradcheck(function, (x, *parameters))
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("channels", [8, 32])
def test_in_bfloat16_they_are_as_near_as_torchs_own(kind: str, channels: int) -> None:
    """To float64; few channels stay torch's own, to the last bit."""
    x, layer = maps(16, channels, 4, 4).float(), LAYERS[kind](channels, 2 * channels, 4, 2, 1)

    def gradients(layer: nn.Module, x: Tensor, forward=None) -> list[Tensor]:
        y = forward(layer, x) if forward else layer(x)
        weights = maps(*y.shape, seed=2).to(y.dtype)
        return [g.double() for g in torch.autograd.grad((y * weights).sum(), list(layer.parameters()))]

    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer, x, convolutions.by_product(layer))
        own = gradients(layer, x)
    exact = gradients(layer.double(), x.double())
    for one, other, truth in zip(found, own, exact, strict=True):
        if channels == 8:
            assert torch.equal(one, other)
        errors = [float((gradient - truth).norm() / truth.norm()) for gradient in (one, other)]
        assert errors[0] < max(1.5 * errors[1], 1e-4)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (nn.Conv2d, {"padding_mode": "reflect"}),
        (nn.Conv2d, {"dilation": 2}),
        (nn.Conv2d, {"groups": 2}),
        (nn.Conv2d, {"kernel_size": 3}),
        (nn.Conv2d, {"padding": "valid"}),
        (nn.ConvTranspose2d, {"output_padding": 1}),
        (nn.ConvTranspose2d, {"stride": 4}),
    ],
)
def test_layers_of_another_function_are_not_taken(kind: type[nn.Module], change: dict[str, object]) -> None:
    settings = {"kernel_size": 4, "stride": 2, "padding": 1}
    assert convolutions.by_product(kind(4, 4, **settings))
    assert convolutions.by_product(kind(4, 4, **settings | change)) is None


def test_only_convolutions_that_double_or_halve_are_taken() -> None:
    taken = {
        name: [
            layer
            for build in (model.generator, model.discriminator)
            for layer in build(Shape(1, 16), networks(width=8, latent=4)).modules()
            if convolutions.by_product(layer)
        ]
        for name, model in MODELS.items()
    }
    # DCGAN at 16x16: one doubling before the pixels; a halving of pixels and one of maps
    assert {name: len(layers) for name, layers in taken.items()} == {
        "gan": 0,
        "dcgan": 3,
        "dcgan-nobn": 3,
        "sagan": 0,
    }


@pytest.mark.parametrize(("networks", "loss"), [("dcgan", "non-saturating"), ("dcgan-nobn", "wasserstein-gp")])
def test_no_weight_gradient_is_computed_that_nobody_wants(networks, loss, tiny, blobs, monkeypatch) -> None:
    """One of the generator's; of the discriminator's two, one each for the real and the generated batch.

    None for a penalty's slope, which is the images' gradient.
    """
    calls: list[int] = []

    def spy(large: Tensor, small: Tensor) -> Tensor:
        calls.append(large.shape[-1])
        return original(large, small)

    original = convolutions.weight_gradient
    monkeypatch.setattr(convolutions, "weight_gradient", spy)
    monkeypatch.setattr(precision, "has_tiles", lambda device: True)
    monkeypatch.setattr(convolutions, "pays", lambda *_: True)
    made = tiny({"networks": {"name": networks}, "loss": {"name": loss}}, precision="bf16")
    RULES["two-player"](made, Shape(1, 16), Context(blobs().train)).step(0)
    assert sorted(calls) == [8, 8, 8, 16, 16]


def test_networks_take_them_in_bf16_where_there_are_tiles(monkeypatch) -> None:
    config = networks(name="dcgan", width=16, latent=4)
    for tiles in (False, True):
        monkeypatch.setattr(precision, "has_tiles", lambda device, tiles=tiles: tiles)
        for kind in ("float32", "bf16"):
            network = precision.place(MODELS["dcgan"].generator(Shape(1, 16), config), torch.device("cpu"), kind)
            own = [layer for layer in network.modules() if "forward" in vars(layer) and layer is not network]
            assert len(own) == (kind == "bf16" and tiles)
            assert not any("forward" in vars(layer) for layer in precision.restore(network).modules())
