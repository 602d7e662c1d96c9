"""The residual networks of WGAN-GP and SNGAN on CIFAR-10, at any side that is a multiple of 8.

`wgan-gp`: Gulrajani et al. 2017 (arXiv 1704.00028), appendix F; `sngan`: Miyato et al. 2018 (arXiv 1802.05957),
table 4. They differ in the generator's width, in the discriminator's spectral norm and in how it ends: WGAN-GP
takes the mean over places, SNGAN the sum.

Conditional, both generators' blocks have conditional BatchNorm. D of `sngan` has a projection (Miyato & Koyama
2018, arXiv 1802.05637), whose vectors are under spectral norm as well; D of `wgan-gp` is a classifier too
(Gulrajani et al. 2017, section 5.3).

Differences from the papers:

- unconditional by default, as their unsupervised experiments;
- conditional, D of `wgan-gp` learns the classes of generated images too, as ACGAN's does; its authors' learns
  those of real ones, and their G's class term has weight 0.1 (here `loss.auxiliary`, of both networks);
- generated images have independent labels; WGAN-GP's code uses those of the real batch in D;
- the last layer of `sngan`'s D keeps its bias, which its code's lacks;
- the side is a parameter, 32 in the papers: generators double it from 4x4 on, discriminators halve it to 8x8 (6x6
  and 12x12 for a side of 96, and so on);
- pixels of WGAN-GP's real images are not dithered;
- the generator's step shares the last discriminator step's generated batch; the papers draw another, twice as
  large;
- learning rates fall to 0 over the budget, whatever that is; over 100,000 generator steps in the papers (50,000 in
  SNGAN's code for CIFAR-10);
- the generator that is scored is an average of weights; the papers' is the trained one;
- shortcuts are convolved where their maps are small: 1x1 convolutions commute with nearest upsampling and with
  average pooling, so the functions are the same.

Initial weights are those of both papers' code: Glorot's uniform ones, times sqrt(2) in the residual branches.
"""

from collections.abc import Callable
from functools import partial

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from gans.config import Count, NetworkConfig
from gans.models import Model
from gans.models.layers import (
    BatchNorm,
    Chain,
    Labelled,
    Shape,
    batch_norm,
    first_side,
    glorot,
    projected,
    sn_embedding,
    stages,
)
from gans.models.spectral import iterate_ahead, spectral_norm
from gans.recipes import PENALISED, search_space

GAIN = 2**0.5  # of convolutions between two ReLUs
Norm = Callable[[nn.Conv2d | nn.Linear], nn.Module]  # of a discriminator's layers


class Config(NetworkConfig):
    width: Count = Field(128, description="channels of all of the discriminator's maps")
    widening: Count = Field(1, description="the generator's maps have so many times as many")


class Generator(nn.Module):
    """Latents -> 4x4 -> residual blocks that double the side -> BatchNorm, ReLU, 3x3 convolution, tanh."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        width, side = config.width * config.widening, first_side(shape.side)
        blocks = [UpBlock(width, shape.classes) for _ in range(stages(shape.side))]
        self.layers = Chain(
            glorot(nn.Linear(config.latent, width * side**2)),
            nn.Unflatten(1, (width, side, side)),
            *blocks,
            BatchNorm(width),
            nn.ReLU(),
            conv(width, shape.channels, 3),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(z, labels)


class Discriminator(nn.Module):
    """Residual blocks that halve the side down to 8x8, two more, ReLU, sum or mean over places, linear.

    Args:
        norm: of all layers.
        mean: over places, in place of the sum.
        project: what it does with classes if there are some: a projection, or a classifier.
    """

    def __init__(self, shape: Shape, config: Config, norm: Norm, mean: bool, project: bool) -> None:
        super().__init__()
        width = config.width
        blocks: list[nn.Module] = [FirstDownBlock(shape.channels, width, norm)]
        blocks += [DownBlock(width, width, norm) for _ in range(stages(shape.side) - 2)]
        self.blocks = nn.Sequential(*blocks, Block(width, norm), Block(width, norm), nn.ReLU())
        self.end = norm(glorot(nn.Linear(width, 1 if project else 1 + shape.classes)))
        self.places = (2 * first_side(shape.side)) ** 2 if mean else 1
        self.project = sn_embedding(shape.classes, width) if project and shape.classes else None

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        iterate_ahead(self)
        features = self.blocks(x).sum(dim=(2, 3)) / self.places
        return projected(self.end(features).squeeze(1), features, self.project, labels)


class UpBlock(Labelled):
    """(n, width, h, w) -> (n, width, 2h, 2w): BatchNorm, ReLU, nearest upsampling, two 3x3 convolutions."""

    def __init__(self, width: int, classes: int = 0) -> None:
        super().__init__()
        self.first = Chain(batch_norm(width, classes), nn.ReLU())
        self.second = Chain(
            conv(width, width, 3, GAIN), batch_norm(width, classes), nn.ReLU(), conv(width, width, 3, GAIN)
        )
        self.shortcut = conv(width, width, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.second(double(self.first(x, labels)), labels) + double(self.shortcut(x))


class DownBlock(nn.Module):
    """(n, inputs, h, w) -> (n, width, h/2, w/2): ReLU and 3x3 convolution twice, average pooling."""

    def __init__(self, inputs: int, width: int, norm: Norm, gain: float = GAIN) -> None:
        super().__init__()
        self.residual = branch(inputs, width, norm, gain)
        self.shortcut = norm(conv(inputs, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool2d(self.residual(x), 2) + self.shortcut(avg_pool2d(x, 2))


class FirstDownBlock(DownBlock):
    """A DownBlock whose residual has no ReLU in front: pixels keep their sign."""

    def __init__(self, inputs: int, width: int, norm: Norm, gain: float = GAIN) -> None:
        super().__init__(inputs, width, norm, gain)
        self.residual = self.residual[1:]


class Block(nn.Module):
    """A residual block that keeps the shape (n, width, h, w)."""

    def __init__(self, width: int, norm: Norm, gain: float = GAIN) -> None:
        super().__init__()
        self.residual = branch(width, width, norm, gain)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.residual(x)


def branch(inputs: int, width: int, norm: Norm, gain: float) -> nn.Sequential:
    """ReLU and 3x3 convolution, twice."""
    first, second = (norm(conv(channels, width, 3, gain)) for channels in (inputs, width))
    return nn.Sequential(nn.ReLU(), first, nn.ReLU(), second)


def conv(inputs: int, outputs: int, kernel: int, gain: float = 1.0) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return glorot(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), gain)


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling by two."""
    return interpolate(x, scale_factor=2, mode="nearest")


# both papers: five discriminator steps, Adam, learning rates that fall to 0
COMMON = {
    "batch": 64,
    "update": {"d_steps": 5},
    "optimizer": {"lr_g": 2e-4, "lr_d": 2e-4, "beta1": 0.0, "beta2": 0.9},
    "anneal": {"shape": "linear", "lr": 0.0},
}
SNGAN = Model(
    Config,
    Generator,
    partial(Discriminator, norm=spectral_norm, mean=False, project=True),
    # Miyato et al. 2018, appendix B.4, and setting F of table 1
    {**COMMON, "networks": {"latent": 128, "width": 128, "widening": 2}, "loss": {"name": "hinge"}},
    search_space(PENALISED, lowest_rate=2e-5),
    about="residual networks, spectral norm in the discriminator, hinge loss (Miyato et al. 2018)",
    conditional="projection",
)
WGAN_GP = Model(
    Config,
    Generator,
    partial(Discriminator, norm=lambda layer: layer, mean=True, project=False),
    # Gulrajani et al. 2017, appendix F: lambda = 10, the default
    {**COMMON, "networks": {"latent": 128, "width": 128}, "loss": {"name": "wasserstein-gp"}},
    search_space(PENALISED, lowest_rate=2e-5),
    about="residual networks, Wasserstein loss with gradient penalty (Gulrajani et al. 2017)",
    conditional="auxiliary",
)
