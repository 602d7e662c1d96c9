"""A small residual GAN: the example of docs/extending.md. One file holds everything of the model.

Try it in the folder of this file with `gans train mine:MINE`, or from the repository with
`gans train docs.examples.mine:MINE`. It follows no paper, so it lists no differences from one.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from gans.config import Count, NetworkConfig
from gans.models import Model
from gans.models.layers import Shape, first_side, stages
from gans.recipes import PENALISED, search_space


class Config(NetworkConfig):
    width: Count = Field(24, description="channels of all maps")
    depth: Count = Field(1, description="residual blocks at every size of the maps")


class Block(nn.Module):
    """x + f(x): two 3x3 convolutions that keep the size, (n, width, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.change = nn.Sequential(nn.ReLU(), convolutions[0], nn.ReLU(), convolutions[1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.change(x)


class Generator(nn.Module):
    """Latents (n, latent) -> 4x4 maps -> ... -> images (n, channels, side, side) in [-1, 1]."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        width, side = config.width, first_side(shape.side)
        layers: list[nn.Module] = [
            nn.Linear(config.latent, width * side**2),
            nn.Unflatten(1, (width, side, side)),
        ]
        for _ in range(stages(shape.side)):
            layers += [nn.Upsample(scale_factor=2), *(Block(width) for _ in range(config.depth))]
        layers += [nn.ReLU(), nn.Conv2d(width, shape.channels, 3, padding=1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Discriminator(nn.Module):
    """Images -> maps of half the side, repeatedly -> logits (n,); the sigmoid is part of the loss."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        width = config.width
        layers: list[nn.Module] = [nn.Conv2d(shape.channels, width, 3, padding=1)]
        for _ in range(stages(shape.side)):
            layers += [*(Block(width) for _ in range(config.depth)), nn.AvgPool2d(2)]
        layers += [nn.ReLU(), nn.Flatten(), nn.Linear(width * first_side(shape.side) ** 2, 1), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


SPACE = search_space(PENALISED)
MINE = Model(
    config=Config,
    generator=Generator,
    discriminator=Discriminator,
    # without BatchNorm a gradient penalty is allowed; rates and betas as its paper has them (1704.00028)
    recipe={
        "networks": {"latent": 64},
        "loss": {"name": "wasserstein-gp"},
        "optimizer": {"lr_g": 1e-3, "lr_d": 1e-3, "beta1": 0.0, "beta2": 0.9},
    },
    about="a small residual GAN, the example of docs/extending.md",
    space={**SPACE, "networks": {**SPACE["networks"], "depth": [1, 2]}},
)
