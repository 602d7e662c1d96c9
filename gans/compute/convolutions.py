"""Strided convolutions whose weight gradient is a matrix product, for bfloat16 on CPUs with matrix tiles (AMX).

oneDNN's weight gradient of a convolution to small maps takes longer than the convolution and the gradient of its
input together, at a tenth of the rate that these tiles have in a large product (Xeon, `docs/speed-log.md`).
As a product of patches it takes a half to a fifth of the time. Everything else stays oneDNN's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad

KERNEL, STRIDE, PADDING = 4, 2, 1  # DCGAN's: (n, c, 2h, 2w) <-> (n, k, h, w)
SETTINGS = {
    "kernel_size": (KERNEL, KERNEL),
    "stride": (STRIDE, STRIDE),
    "padding": (PADDING, PADDING),
    "dilation": (1, 1),
    "groups": 1,
    "padding_mode": "zeros",
    "output_padding": (0, 0),  # a transposed convolution's
}
Forward = Callable[[Any, Tensor], Tensor]


def by_product(layer: nn.Module) -> Forward | None:
    """The forward method of a layer with such a gradient; None if the layer is none that it is made for."""
    kinds: dict[Any, Forward] = {nn.Conv2d.forward: halve, nn.ConvTranspose2d.forward: double}
    forward = kinds.get(type(layer).forward)  # a subclass that computes in another way has another one
    if forward is None:
        return None
    return forward if all(getattr(layer, name, value) == value for name, value in SETTINGS.items()) else None


def pays(channels: int, side: int) -> bool:
    """Whether the product is faster: measured for 16 to 512 channels, batches of 32 and 128, one core and two.

    Args:
        channels: of the side that has fewer.
        side: of the smaller maps, in pixels.
    """
    return (side <= 4 and channels >= 16) or (side <= 8 and channels >= 64)


_weights_wanted = True


@contextmanager
def inputs_only() -> Iterator[None]:
    """No weight gradients in this block, for `torch.autograd.grad` with respect to images.

    Torch's own layers see by themselves what is asked for; an autograd function in Python does not.
    """
    global _weights_wanted
    _weights_wanted = False
    try:
        yield
    finally:
        _weights_wanted = True


def halve(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """(n, inputs, 2h, 2w) -> (n, outputs, h, w), in bfloat16."""
    if not pays(min(layer.in_channels, layer.out_channels), x.shape[-1] // 2):
        return nn.Conv2d.forward(layer, x)
    return _Convolution.apply(*_lowered(x, layer.weight, layer.bias), False)


def double(layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """(n, inputs, h, w) -> (n, outputs, 2h, 2w), in bfloat16."""
    if not pays(min(layer.in_channels, layer.out_channels), x.shape[-1]):
        return nn.ConvTranspose2d.forward(layer, x)
    return _Convolution.apply(*_lowered(x, layer.weight, layer.bias), True)


def _lowered(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.bfloat16() for tensor in tensors]


class _Convolution(torch.autograd.Function):
    """A convolution, transposed if it doubles: each one is the other's gradient with respect to its input.

    The backward pass is made of differentiable operations, which a gradient penalty needs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, doubles: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.doubles = doubles
        return (conv_transpose2d if doubles else conv2d)(x, weight, bias, STRIDE, PADDING)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        back = conv2d if ctx.doubles else conv_transpose2d
        large, small = (gradient, x) if ctx.doubles else (x, gradient)
        return (
            back(gradient, weight, None, STRIDE, PADDING) if of_x else None,
            weight_gradient(large, small) if of_weight and _weights_wanted else None,
            gradient.sum((0, 2, 3)) if of_bias and _weights_wanted else None,
            None,
        )


def weight_gradient(large: Tensor, small: Tensor) -> Tensor:
    """dW[k, c] = sum over images and places of small[k] times the 4x4 patch of large[c] that belongs to the place.

    Args:
        large: (n, c, 2h, 2w): what is convolved, or the gradient of what a transposed convolution gives.
        small: (n, k, h, w): the gradient of what a convolution gives, or what is convolved transposed.

    Returns:
        (k, c, 4, 4), channels last in memory.
    """
    padded = pad(large.permute(0, 2, 3, 1), (0, 0, PADDING, PADDING, PADDING, PADDING))
    patches = padded.unfold(1, KERNEL, STRIDE).unfold(2, KERNEL, STRIDE).permute(0, 1, 2, 4, 5, 3)
    rows = small.permute(0, 2, 3, 1).flatten(0, 2)  # (n h w, k)
    product = rows.T @ patches.flatten(3).flatten(0, 2)
    return product.unflatten(1, patches.shape[3:]).permute(0, 3, 1, 2)
