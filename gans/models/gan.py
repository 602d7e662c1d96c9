"""The fully connected GAN (Goodfellow et al. 2014, arXiv 1406.2661).

Two hidden layers of `width` units in each network.

Conditional, it is an ACGAN (Odena et al. 2017, arXiv 1610.09585), the fully connected one of MD-GAN's paper (Hardy
et al. 2019, arXiv 1811.03850): the label is appended to z, one-hot; D has an output for each class and a logit.

Differences from the paper:

- ReLU in G, where it mixes rectifiers and sigmoids, and LeakyReLU 0.2 in D, where it has maxout and dropout;
- tanh for pixels in [-1, 1], not a sigmoid for pixels in [0, 1];
- D returns logits; the sigmoid is part of the loss, where it does not overflow;
- Adam in place of SGD with momentum;
- conditional: MD-GAN's paper does not say how the label enters G, whose 716,560 parameters are those of 100
  inputs: here z and label together, so latent = 90 for ten classes. D has its 670,219.

Reimplementations since DCGAN make the first two changes and use Adam.
"""

from pydantic import Field
from torch import Tensor, nn

from gans.config import Count, NetworkConfig
from gans.models import Model
from gans.models.layers import Shape, labelled
from gans.recipes import PENALISED, search_space


class Config(NetworkConfig):
    width: Count = Field(64, description="units of each hidden layer")


class Generator(nn.Module):
    """z (and label) -> h -> h -> pixels, ReLU, tanh."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        self.classes = shape.classes
        self.layers = nn.Sequential(
            nn.Linear(config.latent + shape.classes, config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, shape.channels * shape.side**2),
            nn.Tanh(),
            nn.Unflatten(1, (shape.channels, shape.side, shape.side)),
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layers(labelled(z, labels, self.classes))


class Discriminator(nn.Module):
    """pixels -> h -> h -> logit (and those of the classes), LeakyReLU 0.2."""

    def __init__(self, shape: Shape, config: Config) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(shape.channels * shape.side**2, config.width),
            nn.LeakyReLU(0.2),
            nn.Linear(config.width, config.width),
            nn.LeakyReLU(0.2),
            nn.Linear(config.width, 1 + shape.classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


GAN = Model(
    config=Config,
    generator=Generator,
    discriminator=Discriminator,
    # Goodfellow et al. 2014 trained with momentum SGD and maxout; the Adam settings are DCGAN's, as in every
    # reimplementation that works. Widths are those of the MD-GAN paper's fully connected networks.
    recipe={"networks": {"latent": 100, "width": 512}},
    space=search_space(["non-saturating", "minimax", *PENALISED[1:]]),
    cuda="tf32",
    about="fully connected networks (Goodfellow et al. 2014)",
    conditional="auxiliary",
)
