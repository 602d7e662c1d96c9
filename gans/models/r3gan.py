"""R3GAN (Huang et al. 2024, arXiv 2501.05441), a minimal modern baseline.

Residual networks without any normalisation: inverted bottlenecks of a 1x1, a grouped 3x3 and a 1x1 convolution
around leaky ReLUs, two a stage; bilinear resampling between stages; a learned 4x4 basis at the bottom, weighted by
z in G, and summed to the logit in D. Weights start as He's, scaled for the depth, and each block as the
identity (fix-up: Zhang et al. 2019). The two networks mirror each other. They are trained by the relativistic
pairing loss with zero-centred gradient penalties on real and on generated images: settings that any model may have
(`loss`, `penalties`, `anneal`).

Conditional, as its networks for CIFAR-10: an embedding of the label, as long as z, is appended to z; D ends in
`width` features, whose product with another embedding of the label is the logit.

Differences from the paper:

- unconditional by default;
- conditional, generated images have independent labels; in its code, those of the paired real images;
- the width is a parameter, 128 by default, since second derivatives are expensive: at 768 and latent = 64 these
  are its networks for CIFAR-10;
- beyond 32x32 the width halves with every doubling, as in its networks for faces of 64x64 and 256x256;
- tanh for pixels in [-1, 1], where its generator ends in a linear layer;
- float32 or bfloat16; its code always has bfloat16 in the large stages;
- one batch of real and generated images serves both networks' steps; its code draws another for G's;
- images are not mirrored by default (`augment = "flip"`), in its code they are;
- batches of 64, not 512; the schedules run over the whole budget, not over the first 20,000 kimg;
- no augmentation by default (`augment`); it has StyleGAN2-ADA's, of growing strength;
- the average of weights has one half-life, which grows there.
"""

import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pad

from gans.config import Count, NetworkConfig
from gans.models import Model
from gans.models.layers import Shape, first_side, looked_up, stages
from gans.recipes import search_space

EXPANSION = 2  # of the bottleneck, inverted
GROUP = 16  # channels in a group of a grouped convolution
SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # He's, of the leaky ReLU
LARGEST = 32  # maps of less than twice this side have the full width


class Config(NetworkConfig):
    width: Count = Field(128, description="channels of maps up to 32x32; they halve with every doubling beyond")
    blocks: Count = Field(2, description="residual blocks of each stage")


class Generator(nn.Module):
    """Latents -> 4x4 basis -> stages of residual blocks, each twice as large -> 1x1 convolution, tanh."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        widths = channels(shape, config)
        total = len(widths) * config.blocks
        self.embed = embedding(shape.classes, config.latent) if shape.classes else None
        length = config.latent * (2 if shape.classes else 1)
        first = FromLatent(length, widths[0], first_side(shape.side))
        layers: list[nn.Module] = [first, *blocks(widths[0], config, total)]
        for inputs, outputs in pairwise(widths):
            layers += [*resized(inputs, outputs), Upsample(), *blocks(outputs, config, total)]
        self.layers = nn.Sequential(*layers, he(conv(widths[-1], shape.channels, 1)), nn.Tanh())

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embed is not None and labels is not None:
            z = torch.cat([z, looked_up(self.embed, labels)], dim=1)
        return self.layers(z)


class Discriminator(nn.Module):
    """1x1 convolution -> stages of residual blocks, each half as large -> 4x4 basis -> logit."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        widths = channels(shape, config)[::-1]
        total = len(widths) * config.blocks
        layers: list[nn.Module] = [he(conv(shape.channels, widths[0], 1)), *blocks(widths[0], config, total)]
        for inputs, outputs in pairwise(widths):
            layers += [Downsample(), *resized(inputs, outputs), *blocks(outputs, config, total)]
        width = widths[-1]
        basis = he(nn.Conv2d(width, width, first_side(shape.side), groups=width, bias=False))
        end = he(nn.Linear(width, config.width if shape.classes else 1, bias=False))
        self.layers = nn.Sequential(*layers, basis, nn.Flatten(1), end)
        gain = config.width**-0.5  # the product's variance is a feature's
        self.project = embedding(shape.classes, config.width, gain) if shape.classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(x)
        return features.squeeze(1) if self.project is None else (features * self.project(labels)).sum(dim=1)


class FromLatent(nn.Module):
    """z -> (n, channels, side, side): one learned map a channel, times a linear function of z."""

    def __init__(self, latent: int, channels: int, side: int) -> None:
        super().__init__()
        self.basis = nn.Parameter(torch.randn(channels, side, side))
        self.linear = he(nn.Linear(latent, channels, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        return self.basis * self.linear(z)[:, :, None, None]


class Block(nn.Module):
    """x + 1x1(act(grouped 3x3(act(1x1(x))))) on (n, width, h, w), EXPANSION times as wide in between.

    The activations hold the biases. With `total` blocks in the network, what one adds starts at 0, and its two
    other convolutions at He's weights times total^(-1/4): fix-up's L^(-1 / (2m - 2)) with m = 3 layers.
    """

    def __init__(self, width: int, total: int) -> None:
        super().__init__()
        wide = width * EXPANSION
        gain = GAIN * total**-0.25
        self.layers = nn.Sequential(
            he(conv(width, wide, 1), gain),
            Activation(wide),
            he(conv(wide, wide, 3, groups=wide // math.gcd(wide, GROUP)), gain),
            Activation(wide),
            he(conv(wide, width, 1), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Activation(nn.Module):
    """Leaky ReLU of x + bias, one bias a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x + self.bias[:, None, None], SLOPE)


class Upsample(nn.Module):
    """(n, c, h, w) -> (n, c, 2h, 2w), bilinear: zeros in between, then [1 3 3 1] / 4 along both axes."""

    def forward(self, x: Tensor) -> Tensor:
        # torch repeats the edge; with a ring of zeros around, zeros are beyond it, as in the paper's filter
        return interpolate(pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[:, :, 2:-2, 2:-2]


class Downsample(nn.Module):
    """(n, c, h, w) -> (n, c, h/2, w/2), bilinear: [1 3 3 1] / 8 along both axes, then every second pixel."""

    def forward(self, x: Tensor) -> Tensor:
        padded = pad(x, (1, 1, 1, 1))
        rows = weighed(*(padded[:, :, i : i + x.shape[2] - 1 : 2] for i in range(4)))
        return weighed(*(rows[..., i : i + x.shape[3] - 1 : 2] for i in range(4)))


def weighed(first: Tensor, second: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
    """[1 3 3 1] / 8 of four neighbours, by additions: on a CPU a fraction of a convolution's or a pool's time."""
    return ((first + fourth) / 8).add(second + third, alpha=3 / 8)


def channels(shape: Shape, config: Config) -> list[int]:
    """Of each stage, from the smallest maps to the images' side."""
    sides = [first_side(shape.side) * 2**i for i in range(stages(shape.side) + 1)]
    return [max(1, config.width >> max(0, (side // LARGEST).bit_length() - 1)) for side in sides]


def blocks(width: int, config: Config, total: int) -> list[nn.Module]:
    """The residual blocks of a stage, in a network of `total`."""
    return [Block(width, total) for _ in range(config.blocks)]


def resized(inputs: int, outputs: int) -> list[nn.Module]:
    """A change of the number of channels, where there is one."""
    return [] if inputs == outputs else [he(conv(inputs, outputs, 1))]


def conv(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size, without bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


def embedding(classes: int, length: int, gain: float = 1.0) -> nn.Embedding:
    """A vector for each class, of N(0, gain^2 / classes): He's of a linear map of one-hot labels."""
    layer = nn.Embedding(classes, length)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(classes))
    return layer


def he(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Module:
    """The layer with weights of N(0, gain^2 / fan in) (He et al. 2015)."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    return layer


GAMMA = {"low": 0.1, "high": 1000, "log": True, "relative": True}  # 150 for faces of 256x256, in its code
R3GAN = Model(
    Config,
    Generator,
    Discriminator,
    # Huang et al. 2024, its code for CIFAR-10: learning rate 2e-4 to 5e-5, beta2 0.9 to 0.99, gamma 0.05 to 0.005
    {
        "networks": {"latent": 64, "width": 128, "blocks": 2},
        "loss": {"name": "relativistic"},
        "penalties": {"r1": 0.05, "r2": 0.05},
        "optimizer": {"lr_g": 2e-4, "lr_d": 2e-4, "beta1": 0.0, "beta2": 0.9},
        "anneal": {"shape": "cosine", "lr": 0.25, "beta2": 0.1, "penalty": 0.1},
    },
    {
        **search_space(("relativistic", "non-saturating", "hinge"), {"d_steps": [1, 2]}, lowest_rate=2e-5),
        "penalties": dict.fromkeys(("r1", "r2"), GAMMA),
    },
    about="residual networks without norms, relativistic loss, zero-centred penalties (Huang et al. 2024)",
    conditional="projection",
)
