"""Images from latents, and paths in latent space.

    generator, about = load_generator("runs/train/.../generator.safetensors")
    images = generate(generator, latents.draw(64, about["networks"]["latent"], seed=0))

`gans.runs.find.find_generator` gives the file of a run's folder, or of a run in the tracking store.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from gans.config import network_config
from gans.errors import InputError, first_line
from gans.files import load_weights
from gans.generate import latents
from gans.models import build_generator
from gans.models.inputs import Prior, generate
from gans.models.layers import Shape
from gans.registry import NotAllowed

__all__ = ["generate", "latents", "load_generator"]


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """A trained generator from the safetensors file that training wrote, and the file's description.

    The network is in eval mode on its device, and maps latents (n, latent), and labels (n,) if it is conditional,
    to images (n, channels, side, side) in [-1, 1]. The description has `shape` (channels, side), `networks`
    (`latent` among them), `experiment`, `classes` (their `names` and `shares`) if it is conditional, ...;
    `Prior.from_about` reads what it draws from. An InputError if there is no such file, or none with a generator
    of this version.
    """
    weights, about = load_weights(Path(path))
    try:
        channels, side = about["shape"]
        shape, networks = Shape(channels, side, len(Prior.from_about(about).classes)), about["networks"]
        config = network_config(networks).model_validate(networks)
        with torch.device("meta"):  # without memory: the file may describe a network that is larger than that
            build_generator(shape, config, seed=0).load_state_dict(weights, assign=True)
        generator = build_generator(shape, config, seed=0)
        generator.load_state_dict(weights)
    except NotAllowed as error:
        raise NotAllowed(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not hold a generator of this version: {first_line(error)}") from None
    return generator.to(device).eval(), about
