"""SAGAN (Zhang et al. 2018, arXiv 1805.08318), at any side that is a multiple of 8.

Residual networks (those of Miyato & Koyama 2018, 1802.05637), spectral norm on every linear and convolutional
layer of both networks, one self-attention layer in each. Conditional, as in the paper, G's blocks have conditional
BatchNorm and D a projection: D(x, y) = psi(phi(x)) + <V y, phi(x)>, with V under spectral norm as well.

Differences from the paper:

- unconditional by default: plain BatchNorm in place of conditional BatchNorm, no projection term in D;
- side and width are parameters, its images are 128x128;
- attention sits at side/2 (so 16x16 for CIFAR-10), the largest maps that both networks share; the paper's best has
  it on 32x32 maps;
- keys and values are max-pooled 2x2 and values have C/2 channels, as in its code, whose attention has no biases;
- batches of 64; its code's README has 256, 64 on each of four GPUs;
- running means of BatchNorm decay by 0.9 a step, in its code by 0.999;
- shortcuts are convolved where their maps are small: 1x1 convolutions commute with nearest upsampling and with
  average pooling, so the functions are the same.
"""

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from gans.config import Count, NetworkConfig
from gans.models import Model
from gans.models.layers import (
    BatchNorm,
    Chain,
    Labelled,
    SelfAttention,
    Shape,
    batch_norm,
    first_side,
    projected,
    sn_conv,
    sn_embedding,
    sn_linear,
    stages,
)
from gans.models.resnet import Block, DownBlock, FirstDownBlock, double
from gans.models.spectral import iterate_ahead, spectral_norm
from gans.recipes import PENALISED, search_space

NORM = (spectral_norm, 1.0)  # of the discriminator's blocks, and the gain of their initial weights


class Config(NetworkConfig):
    width: Count = Field(64, description="channels of the largest maps; they double with every halving")


class Generator(nn.Module):
    """Latents -> 4x4 -> residual blocks that double the side -> BatchNorm, ReLU, 3x3 convolution, tanh."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        doublings = stages(shape.side)
        widths = [config.width * 2**i for i in reversed(range(doublings))]  # what each block gives out
        side = first_side(shape.side)
        start = sn_linear(config.latent, widths[0] * side**2)
        self.start = nn.Sequential(start, nn.Unflatten(1, (widths[0], side, side)))
        blocks: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(pairwise(widths[:1] + widths)):
            blocks.append(UpBlock(inputs, outputs, shape.classes))
            if i == doublings - 2:
                blocks.append(SelfAttention(outputs))
        self.blocks = Chain(*blocks)
        self.end = nn.Sequential(
            BatchNorm(widths[-1]), nn.ReLU(), sn_conv(widths[-1], shape.channels, 3), nn.Tanh()
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        iterate_ahead(self)
        return self.end(self.blocks(self.start(z), labels))


class Discriminator(nn.Module):
    """Residual blocks that halve the side down to 4x4, one more, ReLU, sum over pixels, linear; and projection."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in range(stages(shape.side))]
        blocks: list[nn.Module] = [FirstDownBlock(shape.channels, widths[0], *NORM), SelfAttention(widths[0])]
        for inputs, outputs in pairwise(widths):
            blocks.append(DownBlock(inputs, outputs, *NORM))
        blocks += [Block(widths[-1], *NORM), nn.ReLU()]
        self.blocks = nn.Sequential(*blocks)
        self.end = sn_linear(widths[-1], 1)
        self.project = sn_embedding(shape.classes, widths[-1]) if shape.classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        iterate_ahead(self)
        features = self.blocks(x).sum(dim=(2, 3))
        return projected(self.end(features).squeeze(1), features, self.project, labels)


class UpBlock(Labelled):
    """(n, inputs, h, w) -> (n, outputs, 2h, 2w): BatchNorm, ReLU, nearest upsampling, two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, classes: int = 0) -> None:
        super().__init__()
        self.first = Chain(batch_norm(inputs, classes), nn.ReLU())
        self.conv = sn_conv(inputs, outputs, 3)
        self.second = Chain(batch_norm(outputs, classes), nn.ReLU(), sn_conv(outputs, outputs, 3))
        self.shortcut = sn_conv(inputs, outputs, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        residual = self.second(self.conv(double(self.first(x, labels))), labels)
        # a 1x1 convolution and nearest upsampling commute: this order is four times cheaper
        return residual + double(self.shortcut(x))


SAGAN = Model(
    config=Config,
    generator=Generator,
    discriminator=Discriminator,
    # Zhang et al. 2018, section 5
    recipe={
        "networks": {"latent": 128, "width": 64},
        "loss": {"name": "hinge"},
        "optimizer": {"lr_g": 1e-4, "lr_d": 4e-4, "beta1": 0.0, "beta2": 0.9},
    },
    space=search_space(PENALISED, lowest_rate=2e-5),
    bf16=True,
    cuda="bf16",
    about="residual networks, spectral norm, self-attention, hinge loss (Zhang et al. 2018)",
    conditional="projection",
)
