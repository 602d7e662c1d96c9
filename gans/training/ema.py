"""The exponential moving average of the generator: the network that is scored and sampled."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim import SGD

from gans.compute import precision


class EMA:
    """A frozen copy of the generator in eval mode, whose parameters are moving averages of the trained ones.

    Buffers (BatchNorm's running statistics, spectral norm's vectors) are copied, where BigGAN averages them. The
    half-life is counted in images, so it means the same for every batch size, and grows from 0 at the start of
    training so that the initial weights are forgotten, as in the code of StyleGAN2 (ramp 0.05) and EDM2 (0.09).

    Args:
        generator: the network that is trained.
        halflife_kimg: thousands of images after which a weight's share has halved; 0 copies the weights.

    Attributes:
        share: of the trained weights in the average after the step that was prepared, in their precision: ().
    """

    RAMP_UP = 0.05

    def __init__(self, generator: nn.Module, halflife_kimg: float) -> None:
        self.halflife = halflife_kimg * 1000
        self.generator = copy.deepcopy(generator).eval().requires_grad_(False)
        self.averaged: list[Tensor] = list(self.generator.parameters())
        self.trained = [parameter.detach() for parameter in generator.parameters()]  # in the same memory
        self.buffers, self.trained_buffers = list(self.generator.buffers()), list(generator.buffers())
        self.share = self.averaged[0].new_zeros(())
        # a <- a - share (a - w), as descent on |a|^2 / 2 - <a, w>: one launch, with the share on the device
        self.descent = SGD(self.averaged, self.share, weight_decay=1, maximize=True, fused=True)
        for average, weight in zip(self.averaged, self.trained, strict=True):
            average.grad = weight

    def decay(self, images: int, step: int) -> float:
        """Share of the old average that is kept after a step of `step` images, `images` seen so far."""
        halflife = min(self.halflife, images * self.RAMP_UP)
        return 0.5 ** (step / halflife) if halflife > 0 else 0.0

    def prepare(self, images: int, step: int) -> None:
        """For a step of `step` images, `images` seen after it."""
        self.share.fill_(1 - self.decay(images, step))

    @torch.no_grad()
    def update(self) -> None:
        if precision.by_launches(self.share.device):
            self.descent.step()
        else:
            torch._foreach_lerp_(self.averaged, self.trained, [self.share] * len(self.averaged))
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.trained_buffers)

    def state(self) -> dict[str, Tensor]:
        return self.generator.state_dict()

    def load(self, state: dict[str, Tensor]) -> None:
        self.generator.load_state_dict(state)
