"""Strided convolutions whose weight gradient is a matrix product, for bfloat16 on CPUs with matrix tiles (AMX).

To small maps, oneDNN's weight gradient takes two to five times as long as a product of patches (Xeon,
`docs/speed-log.md`). `Halve` and `Double` take it where it is faster; elsewhere they are torch's layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import conv2d, conv_transpose2d, pad

KERNEL, STRIDE, PADDING = 4, 2, 1  # DCGAN's: (n, c, 2h, 2w) <-> (n, k, h, w)


class Halve(nn.Conv2d):
    """A 4x4 convolution of stride 2: (n, inputs, 2h, 2w) -> (n, outputs, h, w).

    In bfloat16 on a CPU with matrix tiles its weight gradient is a product.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not by_product(x, min(self.in_channels, self.out_channels), x.shape[-1] // 2):
            return super().forward(x)
        return convolved(*in_bfloat16(x, self.weight, self.bias), False)


class Double(nn.ConvTranspose2d):
    """A transposed 4x4 convolution of stride 2: (n, inputs, h, w) -> (n, outputs, 2h, 2w); see `Halve`."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not by_product(x, min(self.in_channels, self.out_channels), x.shape[-1]):
            return super().forward(x, output_size)
        return convolved(*in_bfloat16(x, self.weight, self.bias), True)


def in_bfloat16(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """What autocast does to the arguments of torch's own convolutions."""
    return x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()


def by_product(x: Tensor, channels: int, side: int) -> bool:
    """Whether a convolution of `x`, before autocast lowers it, has the faster weight gradient here.

    `channels` are those of the side that has fewer, `side` that of the smaller maps, in pixels. Measured for 16 to
    512 channels, batches of 32 and 128, one core and two.
    """
    small = (side <= 4 and channels >= 16) or (side <= 8 and channels >= 64)
    lowered = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return small and lowered and x.device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, doubles: bool) -> Tensor:
    """(n, c, 2h, 2w) -> (n, k, h, w), or back by a transposed convolution; weights (k, c, 4, 4)."""
    n, _, height, width = x.shape
    places = (STRIDE * height, STRIDE * width) if doubles else (height // STRIDE, width // STRIDE)
    share = _Share.apply(weight, bias, (x,), (n, weight.shape[int(doubles)], *places), doubles)
    return _Convolution.apply(x, weight, bias, share, doubles)


class _Convolution(Function):
    """A convolution, transposed if it doubles: each one is the other's gradient with respect to its input.

    The gradient of weight and bias is that of `share`. Torch computes all gradients of a function in Python,
    needed or not, but skips functions that do not lead to a needed one: the slope of a gradient penalty, which
    is the images' gradient, costs no weight gradient. The backward passes are made of differentiable operations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, share: Tensor, doubles: bool) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.doubles = doubles
        return (conv_transpose2d if doubles else conv2d)(x, weight, bias, STRIDE, PADDING)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        back = conv2d if ctx.doubles else conv_transpose2d
        of_x = back(gradient, weight, None, STRIDE, PADDING) if ctx.needs_input_grad[0] else None
        return of_x, None, None, gradient, None


class _Share(Function):
    """The weight's and the bias's share in a convolution: 0 in value, and all of their gradient."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor | None, x: tuple[Tensor], shape: tuple[int, ...], doubles: bool
    ) -> Tensor:
        (ctx.x,) = x  # in a tuple, and not saved as other tensors are: no way is to lead from here to the input
        ctx.doubles = doubles
        return weight.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_weight, of_bias, *_ = ctx.needs_input_grad
        large, small = (gradient, ctx.x) if ctx.doubles else (ctx.x, gradient)
        return (
            weight_gradient(large, small) if of_weight else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
            None,
            None,
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
