"""Convolutions with a weight gradient of their own give what torch's give."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from gans.compute import convolutions
from gans.compute.convolutions import Double, Halve

pytestmark = pytest.mark.usefixtures("one_thread")
FUNCTIONS = {
    "halve": (partial(convolutions.convolved, doubles=False), conv2d),
    "double": (partial(convolutions.convolved, doubles=True), conv_transpose2d),
}
LAYERS = {"halve": (Halve, nn.Conv2d), "double": (Double, nn.ConvTranspose2d)}


@pytest.fixture
def tiles(monkeypatch) -> None:
    """A CPU that says that it multiplies tiles of bfloat16 matrices."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True, "avx512_bf16": True})


@pytest.fixture
def products(monkeypatch) -> list[int]:
    """The sides of the larger maps of all weight gradients that are computed as products."""
    sides: list[int] = []
    original = convolutions.weight_gradient

    def spy(large: Tensor, small: Tensor) -> Tensor:
        sides.append(large.shape[-1])
        return original(large, small)

    monkeypatch.setattr(convolutions, "weight_gradient", spy)
    return sides


def maps(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_all_gradients_and_theirs_are_numerically_right(kind: str, bias: bool) -> None:
    """First and second order against differences, in float64: what a gradient penalty rests on."""
    function, torchs = FUNCTIONS[kind]
    x, weight = maps(2, 2, 4, 4), maps(2, 3, 4, 4, seed=1)
    weight = weight.transpose(0, 1).contiguous() if kind == "halve" else weight
    inputs = [tensor.requires_grad_() for tensor in (x, weight, maps(3, seed=2))[: 2 + bias]]

    def convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return function(x, weight, bias)

    assert torch.allclose(convolved(*inputs), torchs(*inputs, stride=2, padding=1), rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(convolved, inputs)
    assert torch.autograd.gradgradcheck(convolved, inputs)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_what_nobody_wants_is_not_computed(kind: str, products) -> None:
    """Neither the weight's gradient for an image's, nor the image's for a weight's, as in torch's own."""
    function, _ = FUNCTIONS[kind]
    x, weight = maps(2, 3, 4, 4).requires_grad_(), maps(3, 3, 4, 4, seed=1).requires_grad_()
    y = function(x, weight, None).square().sum()
    (slope,) = torch.autograd.grad(y, x, create_graph=True)
    assert not products
    torch.autograd.grad(slope.square().sum(), weight)
    assert products == [4 if kind == "halve" else 8]  # of the output, which the slope depends on
    assert not function(x.detach(), weight.detach(), None).requires_grad


@pytest.mark.parametrize("kind", LAYERS)
def test_in_bfloat16_they_are_as_near_to_float64_as_torchs_own(kind: str, tiles, products) -> None:
    ours, torchs = LAYERS[kind]
    x, layer = maps(16, 32, 4, 4).float(), ours(32, 64)

    def gradients(layer: nn.Module, x: Tensor, forward=None) -> list[Tensor]:
        y = forward(layer, x) if forward else layer(x)
        weights = maps(*y.shape, seed=2).to(y.dtype)
        return [g.double() for g in torch.autograd.grad((y * weights).sum(), list(layer.parameters()))]

    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(layer, x)
        assert len(products) == 1
        own = gradients(layer, x, torchs.forward)
    exact = gradients(layer.double(), x.double())
    assert len(products) == 1
    for one, other, truth in zip(found, own, exact, strict=True):
        errors = [float((gradient - truth).norm() / truth.norm()) for gradient in (one, other)]
        assert errors[0] < max(1.5 * errors[1], 1e-4)


@pytest.mark.parametrize(
    ("able", "dtype", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16, True),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16, False),
        ({"amx_bf16": True}, torch.float16, False),
        ({"amx_bf16": True}, None, False),
    ],
)
def test_layers_take_the_product_in_bf16_where_there_are_tiles(able, dtype, expected, monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        x = maps(1, 1, 8, 8)
        assert convolutions.by_product(x, 16, 4) == expected
        assert not convolutions.by_product(x, 8, 4)
        assert not convolutions.by_product(x, 16, 8)
        assert not convolutions.by_product(x.to("meta"), 16, 4)
