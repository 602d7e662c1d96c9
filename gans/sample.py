"""Images from latents: the one way that a generator is sampled, for scores and for pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from gans import seeds
from gans.checkpoint import atomically, load_weights
from gans.config import NetworkConfig
from gans.data import to_uint8
from gans.errors import InputError
from gans.models import build_generator
from gans.models.layers import Shape

# latent seeds are apart from training seeds: every cell is scored on the same latents
PURPOSES = {"choose": 1, "report": 2, "grid": 3}


def latents(count: int, length: int, purpose: str) -> Tensor:
    """Fixed latents (count, length), drawn on the CPU so that every device gets the same.

    Args:
        count: how many; the first ones do not depend on it.
        length: of each latent vector.
        purpose: a key of PURPOSES: `choose` picks checkpoints, `report` gives the final score, `grid` draws.
    """
    return seeds.normal_rows(count, length, PURPOSES[purpose], "fixed latents")


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor, batch: int = 500) -> Tensor:
    """Images of an eval-mode generator: uint8 (n, channels, height, width) on the CPU.

    Args:
        generator: as it is; a network in training mode is refused, since BatchNorm would mix the samples.
        z: latents (n, latent), on any device.
        batch: images at a time.
    """
    if generator.training:
        raise ValueError("a generator is sampled in eval mode; call .eval() on a copy first")
    device = next(generator.parameters()).device
    return torch.cat([to_uint8(generator(part.to(device))).cpu() for part in z.split(batch)])


def load_generator(path: Path, device: torch.device) -> tuple[nn.Module, dict[str, Any]]:
    """The eval-mode generator in a safetensors file that training wrote, and what the file says of it."""
    weights, about = load_weights(path)
    try:
        shape, config = Shape(*about["shape"]), NetworkConfig.model_validate(about["networks"])
        generator = build_generator(shape, config, seed=0)
        generator.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path} does not hold a generator of this version: {first}") from None
    return generator.to(device).eval(), about


def picture(images: Tensor, columns: int | None = None, least: int = 384) -> Image.Image:
    """A grid of uint8 images (n, c, h, w), enlarged without smoothing to at least `least` pixels a side."""
    from torchvision.utils import make_grid  # seconds to import, wanted for pictures only

    columns = columns or math.ceil(math.sqrt(len(images)))
    grid = make_grid(images, nrow=columns, padding=1, pad_value=128)
    image = Image.fromarray(grid.permute(1, 2, 0).numpy())
    if images.shape[1] == 1:
        image = image.convert("L")
    scale = max(1, math.ceil(least / min(image.size)))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    atomically(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))


def tiles(path: Path, side: int, columns: int = 8) -> list[Image.Image]:
    """The single images of a grid that `picture` made, at their own size; none if the file is no such grid.

    Args:
        path: a PNG.
        side: of one image, in pixels.
        columns: of the grid.
    """
    with Image.open(path) as file:
        image = file.copy() if file.mode in ("L", "RGB") else file.convert("RGB")
    scale, rest = divmod(image.width, columns * (side + 1) + 1)
    if rest or not scale:
        return []
    image = image.resize((image.width // scale, image.height // scale), Image.Resampling.NEAREST)
    tops, lefts = (range(1, size - side + 1, side + 1) for size in (image.height, image.width))
    return [image.crop((x, y, x + side, y + side)) for y in tops for x in lefts]
