"""Grids of images: drawn, written, and taken apart again; pictures whose failure must not fail a cell."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gans.errors import brief, first_line
from gans.files import atomically

if TYPE_CHECKING:  # exporters need pictures without torch
    from torch import Tensor

log = logging.getLogger("gans")

LINE = "#808080"  # between images
# what Pillow raises for a file that is no whole picture
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


def picture(images: Tensor, columns: int | None = None, least: int = 384) -> Image.Image:
    """A grid of uint8 images (n, c, h, w), enlarged without smoothing to at least `least` pixels a side."""
    single = photos(images)
    grid = laid_out(single, columns or math.ceil(math.sqrt(len(single)))) if len(single) > 1 else single[0]
    return enlarged(grid, max(1, math.ceil(least / min(grid.size))))


def photos(images: Tensor) -> list[Image.Image]:
    """Of uint8 images (n, c, h, w)."""
    return [Image.fromarray(image.squeeze()) for image in images.permute(0, 2, 3, 1).numpy(force=True)]


def laid_out(images: Sequence[Image.Image], columns: int, gap: int = 1, between: str = LINE) -> Image.Image:
    """Images of one size in rows, with a gap around each."""
    width, height = (side + gap for side in images[0].size)
    across, down = min(columns, len(images)), math.ceil(len(images) / columns)
    canvas = Image.new(images[0].mode, (across * width + gap, down * height + gap), between)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        canvas.paste(image, (column * width + gap, row * height + gap))
    return canvas


def enlarged(image: Image.Image, scale: int) -> Image.Image:
    """By a whole factor, without smoothing."""
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a small PNG without metadata, whole or not at all; as grey values if it has no colour."""
    if image.mode == "RGB" and (np.ptp(np.asarray(image), axis=2) == 0).all():
        image = image.convert("L")
    atomically(path, lambda temporary: image.save(temporary, format="PNG", optimize=True))


@contextmanager
def decorating(path: Path) -> Iterator[None]:
    """A block that draws and keeps a picture: an error ends it, with a line in the log that names the file."""
    try:
        yield
    except Exception as error:  # of drawing libraries, fonts, a full disk: no reason to lose a trained cell
        log.warning("the picture %s is left out: %s", path, brief(error))


def readable(path: Path) -> bool:
    """Whether a picture can be decoded; one that cannot be is named in the log."""
    try:
        with Image.open(path) as file:
            file.load()
    except UNREADABLE as error:
        log.warning("%s is damaged (%s); it is left out", path, first_line(error))
        return False
    return True


def tiles(path: Path, side: int, columns: int = 8) -> list[Image.Image]:
    """The single images of a grid that `picture` made, `side` pixels each; none if the file is no such grid."""
    with Image.open(path) as file:
        image = file.copy() if file.mode in ("L", "RGB") else file.convert("RGB")
    scale, rest = divmod(image.width, columns * (side + 1) + 1)
    if rest or not scale:
        return []
    image = image.resize((image.width // scale, image.height // scale), Image.Resampling.NEAREST)
    tops, lefts = (range(1, size - side + 1, side + 1) for size in (image.height, image.width))
    return [image.crop((x, y, x + side, y + side)) for y in tops for x in lefts]


def mosaic(images: Sequence[Image.Image], columns: int, wide: int) -> Image.Image:
    """A grid, enlarged by the whole factor that comes nearest to `wide` pixels.

    What would be more than a quarter wider is made as small.
    """
    grid = laid_out(images, columns)
    grid = enlarged(grid, max(1, round(wide / grid.width)))
    if grid.width > 1.25 * wide:
        grid.thumbnail((wide, grid.height))
    return grid
