"""Grids of images: drawn, written, and taken apart again."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from gans.errors import first_line
from gans.files import atomically

log = logging.getLogger("gans")

LINE = "#808080"  # between images
# what Pillow raises for a file that is no whole picture
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError)


def picture(images: Tensor, columns: int | None = None, least: int = 384) -> Image.Image:
    """A grid of uint8 images (n, c, h, w), enlarged without smoothing to at least `least` pixels a side."""
    from torchvision.utils import make_grid  # seconds to import, only needed for pictures

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


def mosaic(images: Sequence[Image.Image], columns: int, wide: int) -> Image.Image:
    """Images of one size in rows on grey, enlarged by the whole factor that comes nearest to `wide` pixels.

    What would be more than a quarter wider is made as small.
    """
    width, height = (side + 1 for side in images[0].size)
    rows = math.ceil(len(images) / columns)
    canvas = Image.new(images[0].mode, (columns * width + 1, rows * height + 1), LINE)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        canvas.paste(image, (column * width + 1, row * height + 1))
    scale = max(1, round(wide / canvas.width))
    canvas = canvas.resize((canvas.width * scale, canvas.height * scale), Image.Resampling.NEAREST)
    if canvas.width > 1.25 * wide:
        canvas.thumbnail((wide, canvas.height))
    return canvas
