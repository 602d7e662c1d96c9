"""Tests networks and losses from outside on two images, before training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gans.config import NetworkConfig
from gans.errors import InputError
from gans.models import build_discriminator, build_generator
from gans.models.layers import Shape
from gans.registry import LOSSES, MODELS, kind_of


@lru_cache(maxsize=256)
def check_networks(shape: Shape, config: NetworkConfig) -> None:
    """Refuse a model from outside whose networks raise, or return something other than images and logits.

    Raises:
        InputError: with the model's name, the actual and the expected output.
    """
    if config.name in MODELS.entries:
        return
    labels = (torch.arange(2) % shape.classes,) if shape.classes else ()
    projects = MODELS[config.name].conditional == "projection"
    logits = (2, 1 + shape.classes) if shape.classes and not projects else (2,)
    with MODELS.calling(config.name), torch.no_grad():
        generator, discriminator = (build(shape, config, 0) for build in (build_generator, build_discriminator))
        images = generator(torch.randn(2, config.latent), *labels)
        _check(config.name, "its generator", images, (2, shape.channels, shape.side, shape.side))
        if (most := images.abs().max()) > 1:
            raise InputError(f"{config.name}: its generator's pixels reach {most:.3g}, not 1; end it with Tanh")
        judged = discriminator(images, *labels) if projects else discriminator(images)
        _check(config.name, "its discriminator", judged, logits)


@lru_cache(maxsize=256)
def check_loss(name: str) -> None:
    """Refuse a loss from outside that raises, or returns something other than a number.

    Raises:
        InputError: with the loss's name, the actual and the expected output.
    """
    if name in LOSSES.entries:
        return
    loss, real, fake = LOSSES[name], torch.zeros(2), torch.ones(2)
    with LOSSES.calling(name):
        _check(name, "d_loss", loss.d_loss(real, fake), ())
        _check(name, "g_loss", loss.g_loss(real, fake) if loss.relative else loss.g_loss(fake), ())


def _check(name: str, what: str, found: Any, shape: Sequence[int]) -> None:
    """Refuse anything but a tensor of finite float32 numbers of this shape."""
    fits = isinstance(found, Tensor) and found.dtype == torch.float32 and found.shape == torch.Size(shape)
    given = "numbers that are not finite" if fits and not found.isfinite().all() else kind_of(found)
    if not fits or not found.isfinite().all():
        raise InputError(f"{name}: {what} gives {given}, not float32 {tuple(shape)}")
