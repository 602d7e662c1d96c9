"""Images from a generator's inputs, for all scores and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gans.config import network_config
from gans.data.images import to_uint8
from gans.errors import InputError, first_line
from gans.files import load_weights
from gans.models import build_generator
from gans.models.inputs import GeneratorInput, Prior
from gans.models.layers import Shape
from gans.registry import NotAllowed

# seeds of inputs are apart from training seeds: every cell is scored on the same latents
PURPOSES = {"choose": 1, "report": 2, "grid": 3}


def inputs(count: int, prior: Prior, purpose: str) -> GeneratorInput:
    """Fixed inputs, drawn on the CPU so that they are the same on every device.

    Args:
        count: how many; the first ones do not depend on it.
        prior: distribution of the inputs.
        purpose: a key of PURPOSES: `choose` picks checkpoints, `report` gives the final score, `grid` draws.
    """
    return prior.sample(count, PURPOSES[purpose], "fixed latents")


@torch.no_grad()
def generate(generator: nn.Module, code: GeneratorInput | Tensor, batch: int = 500) -> Tensor:
    """Images of an eval-mode generator: uint8 (n, channels, height, width) on the CPU.

    Args:
        generator: in eval mode, on the device that is to draw.
        code: what to draw from, on any device; or latents (n, latent) alone, of a generator without classes.
        batch: images at a time.

    Raises:
        ValueError: the generator is in training mode, where BatchNorm would mix the samples.
        FloatingPointError: it draws NaN: its training has diverged.
    """
    if generator.training:
        raise ValueError("a generator is sampled in eval mode; call .eval() on a copy first")
    device = next(generator.parameters()).device
    code = code if isinstance(code, GeneratorInput) else GeneratorInput(code)
    return torch.cat([to_uint8(generator(*part.to(device))).cpu() for part in code.split(batch)])


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """A trained generator.

    Args:
        path: the safetensors file that training wrote.
        device: where the generator is to be.

    Returns:
        The network in eval mode, which maps latents (n, latent), and labels (n,) if it is conditional, to images
        (n, channels, side, side) in [-1, 1]; and the file's description: `shape` (channels, side), `networks`
        (`latent` among them), `experiment`, `classes` (their `names` and `shares`) if it is conditional, ...
        `Prior.from_about` reads what it draws from.

    Raises:
        InputError: no such file, or none that holds a generator of this version.
    """
    weights, about = load_weights(Path(path))
    try:
        channels, side = about["shape"]
        shape, networks = Shape(channels, side, len(Prior.from_about(about).classes)), about["networks"]
        config = network_config(networks).model_validate(networks)
        generator = build_generator(shape, config, seed=0)
        generator.load_state_dict(weights)
    except NotAllowed as error:
        raise NotAllowed(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} does not hold a generator of this version: {first_line(error)}") from None
    return generator.to(device).eval(), about
