"""The networks. A model is one file here and one line in MODELS.

A model's two classes are built as `Generator(shape, config)` and `Discriminator(shape, config)`:

- the generator maps latents (n, latent) to images (n, channels, side, side) in [-1, 1];
- the discriminator maps such images to logits (n,); the sigmoid lives in the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from gans import seeds
from gans.config import NetworkConfig
from gans.models import dcgan, gan, sagan
from gans.models.layers import Shape

Build = Callable[[Shape, NetworkConfig], nn.Module]


@dataclass(frozen=True)
class Model:
    """A pair of networks."""

    generator: Build
    discriminator: Build


MODELS: dict[str, Model] = {
    "gan": Model(gan.Generator, gan.Discriminator),
    "dcgan": Model(dcgan.Generator, dcgan.Discriminator),
    "dcgan-nobn": Model(partial(dcgan.Generator, norm=False), partial(dcgan.Discriminator, norm=False)),
    "sagan": Model(sagan.Generator, sagan.Discriminator),
}


def build_generator(shape: Shape, config: NetworkConfig, seed: int) -> nn.Module:
    """The generator with initial weights that are a function of the seed, on every device the same."""
    return _build(MODELS[config.name].generator, shape, config, seeds.mix(seed, "generator"))


def build_discriminator(shape: Shape, config: NetworkConfig, seed: int, worker: int = 0) -> nn.Module:
    """The discriminator, likewise; each worker of MD-GAN starts from its own weights."""
    return _build(MODELS[config.name].discriminator, shape, config, seeds.mix(seed, "discriminator", worker))


def _build(build: Build, shape: Shape, config: NetworkConfig, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(shape, config)
