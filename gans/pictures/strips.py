"""The picture of latent arithmetic, laid out as figure 7 of the DCGAN paper (arXiv 1511.06434)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gans.pictures.grids import enlarged, laid_out, photos
from gans.pictures.lettering import INK, PAPER, TEXT, file_for, fitted, font

GAP = 34  # pixels between the terms, for their signs
CELL = 96  # pixels: about how large one image is shown
SIGNS = ("-", "+", "=")


class Term(NamedTuple):
    """A term of the sum: its name, images (n, c, h, w) of what was averaged, image (c, h, w) of the mean."""

    name: str
    examples: Tensor
    mean: Tensor


def strip(terms: Sequence[Term], result: Tensor, around: Tensor) -> Image.Image:
    """a - b + c: the averaged images with their mean's image below, and the result amid eight of its neighbours.

    A term whose name no font has is called by its letter. `result` is the image (c, h, w) of a - b + c, `around`
    are the images of latents near it, (8, c, h, w).
    """
    columns = [_grid(term.examples, 1) for term in terms]
    means = [_grid(term.mean[None], 1) for term in terms]
    nine = _grid(torch.cat([around[:4], result[None], around[4:]]), 3)
    step, side, top = means[0].width + GAP, nine.width // 3, TEXT + 10
    middle = top + max(column.height for column in columns) + 12
    height = max(middle + means[0].height, top + nine.height)
    canvas = Image.new(nine.mode, (len(terms) * step + nine.width, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    names = [term.name if file_for(term.name) else letter for term, letter in zip(terms, "abc", strict=True)]
    short = fitted(names, step - 8)
    for place, (name, column, mean, sign) in enumerate(zip(names, columns, means, SIGNS, strict=True)):
        left = place * step
        pen.text((left, 2), short[name], fill=INK, font=font(name))
        canvas.paste(column, (left, top))
        canvas.paste(mean, (left, middle))
        centre = (left + mean.width + GAP // 2, middle + mean.height // 2)
        pen.text(centre, sign, fill=INK, font=font(size=2 * TEXT), anchor="mm")
    left, above = len(terms) * step, height - nine.height
    (below,) = fitted(["a - b + c, and others near it"], nine.width).values()
    pen.text((left, above - TEXT - 8), below, fill=INK, font=font())
    canvas.paste(nine, (left, above))
    pen.rectangle((left + side, above + side, left + 2 * side, above + 2 * side), outline=PAPER, width=3)
    return canvas


def _grid(images: Tensor, columns: int) -> Image.Image:
    return enlarged(laid_out(photos(images), columns), max(1, round(CELL / images.shape[-1])))
