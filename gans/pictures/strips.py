"""The picture of latent arithmetic, laid out as figure 7 of the DCGAN paper (arXiv 1511.06434)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from gans.pictures.grids import picture
from gans.pictures.lettering import INK, PAPER, TEXT, fitted, font

GAP = 34  # pixels between the terms, for their signs
CELL = 96  # pixels: about how large one image is shown
SIGNS = ("-", "+", "=")


@dataclass(frozen=True)
class Term:
    """A term of the sum: its name, images (n, c, h, w) of what was averaged, image (c, h, w) of the mean."""

    name: str
    examples: Tensor
    mean: Tensor


def strip(terms: Sequence[Term], result: Tensor, around: Tensor) -> Image.Image:
    """a - b + c: the averaged images with their mean's image below, and the result amid eight of its neighbours.

    Args:
        terms: a, b and c.
        result: image (c, h, w) of a - b + c.
        around: eight images of latents near it, (8, c, h, w).
    """
    scale = max(1, round(CELL / result.shape[-1]))
    columns = [_grid(term.examples, 1, scale) for term in terms]
    means = [_grid(term.mean[None], 1, scale) for term in terms]
    nine = _grid(torch.cat([around[:4], result[None], around[4:]]), 3, scale)
    top = TEXT + 10
    middle = top + max(column.height for column in columns) + 12
    width = sum(mean.width + GAP for mean in means) + nine.width
    height = max(middle + means[0].height, top + nine.height)
    canvas = Image.new(nine.mode, (width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    names = fitted((term.name for term in terms), min(mean.width for mean in means) + GAP - 8)
    left = 0
    for term, column, mean, sign in zip(terms, columns, means, SIGNS, strict=True):
        pen.text((left, 2), names[term.name], fill=INK, font=font())
        canvas.paste(column, (left, top))
        canvas.paste(mean, (left, middle))
        place = (left + mean.width + GAP // 2, middle + mean.height // 2)
        pen.text(place, sign, fill=INK, font=font(2 * TEXT), anchor="mm")
        left += mean.width + GAP
    above = height - nine.height
    (below,) = fitted(["a - b + c, and others near it"], nine.width).values()
    pen.text((left, above - TEXT - 8), below, fill=INK, font=font())
    canvas.paste(nine, (left, above))
    side = nine.width // 3
    pen.rectangle((left + side, above + side, left + 2 * side, above + 2 * side), outline=PAPER, width=3)
    return canvas


def _grid(images: Tensor, columns: int, scale: int) -> Image.Image:
    framed = F.pad(images, (1, 1, 1, 1), value=128) if len(images) == 1 else images  # as several are
    small = picture(framed, columns, least=1)
    return small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST)
