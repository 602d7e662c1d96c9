"""DCGAN (Radford et al. 2015, arXiv 1511.06434), with and without BatchNorm, at any side that is a multiple of 8.

The channel count halves with every doubling of the side and ends at `width`; stages = log2(side / 4). The
smallest maps are 4x4 if the side is a power of two, 6x6 for 96 (`first_side`).

Conditional, it is an ACGAN (Odena et al. 2017, arXiv 1610.09585): the one-hot label is appended to z; D has an
output for each class besides the logit.

Differences from the paper:

- side and width are parameters: its network has side 64 and width 128, so 1024, 512, 256, 128 channels;
- z ~ N(0, 1), not uniform;
- D returns logits; the sigmoid is part of the loss, where it does not overflow;
- BatchNorm's scales start from N(1, 0.02), as in its code;
- `dcgan-nobn` has biases in the convolutions in place of BatchNorm;
- conditional, it keeps DCGAN's layers: ACGAN's D has six convolutions and dropout, its G begins with a linear one.

Its first and last layer, a projection of z and a linear map of flattened features, are 4x4 convolutions here: the
same functions.
"""

from functools import partial
from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from gans.compute.convolutions import Double, Halve
from gans.config import Count, NetworkConfig
from gans.models import Model
from gans.models.layers import BatchNorm, Fold, Shape, ToPixels, Unfold, first_side, labelled, normal_init, stages
from gans.recipes import PENALISED, search_space


class Config(NetworkConfig):
    width: Count = Field(
        64,
        description="channels at half the images' side; they double with every halving",
    )


class Generator(nn.Module):
    """Latents (and label) -> 4x4 -> ... -> side x side by transposed 4x4 convolutions; ReLU, tanh."""

    def __init__(self, shape: Shape, config: Config, norm: bool = True) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in reversed(range(stages(shape.side)))]  # from 4x4 to side/2
        self.classes = shape.classes
        first = Unfold(config.latent + shape.classes, widths[0], first_side(shape.side), bias=not norm)
        layers: list[nn.Module] = [first, *_norm(widths[0], norm), nn.ReLU(inplace=True)]
        for inputs, outputs in pairwise(widths):
            layers += _up(inputs, outputs, norm)
        layers += [ToPixels(widths[-1], shape.channels, 4, stride=2, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        normal_init(self)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(labelled(z, labels, self.classes)[:, :, None, None])


class Discriminator(nn.Module):
    """side x side -> ... -> 4x4 -> logit by strided 4x4 convolutions; LeakyReLU 0.2, no norm at the input.

    The classes' logits follow if there are some.
    """

    def __init__(self, shape: Shape, config: Config, norm: bool = True) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in range(stages(shape.side))]  # from side/2 to 4x4
        layers = [*_down(shape.channels, widths[0], norm=False)]
        for inputs, outputs in pairwise(widths):
            layers += _down(inputs, outputs, norm)
        end = Fold(widths[-1], 1 + shape.classes, first_side(shape.side))
        layers += [end, nn.Flatten(1 if shape.classes else 0)]
        self.layers = nn.Sequential(*layers)
        normal_init(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _up(inputs: int, outputs: int, norm: bool) -> list[nn.Module]:
    return [Double(inputs, outputs, bias=not norm), *_norm(outputs, norm), nn.ReLU(inplace=True)]


def _down(inputs: int, outputs: int, norm: bool) -> list[nn.Module]:
    return [Halve(inputs, outputs, bias=not norm), *_norm(outputs, norm), nn.LeakyReLU(0.2, inplace=True)]


def _norm(channels: int, norm: bool) -> list[nn.Module]:
    return [BatchNorm(channels)] if norm else []


# Radford et al. 2015, section 4
RECIPE = {"networks": {"latent": 100, "width": 128}, "batch": 128}
DCGAN = Model(
    Config,
    Generator,
    Discriminator,
    RECIPE,
    search_space(),
    bf16=True,
    cuda="bf16",
    about="transposed and strided convolutions, BatchNorm (Radford et al. 2015)",
    conditional="auxiliary",
)
DCGAN_NOBN = Model(
    Config,
    partial(Generator, norm=False),
    partial(Discriminator, norm=False),
    RECIPE,
    search_space(PENALISED),
    bf16=True,
    cuda="bf16",
    about="dcgan without BatchNorm, so that it may have a gradient penalty",
    conditional="auxiliary",
)
