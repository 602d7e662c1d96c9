"""What tests of networks share."""

from torch import nn

from gans.models import build_discriminator, build_generator
from gans.models.layers import Shape
from tests.conftest import networks


def pair(name: str, shape: Shape, **fields) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of a model, small unless `fields` say otherwise."""
    config = networks(name=name, **{"latent": 8, "width": 8, **fields})
    return build_generator(shape, config, 0), build_discriminator(shape, config, 0)


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
