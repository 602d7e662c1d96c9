"""Words on pictures: the ink, the paper, and the font that Pillow carries."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

PAPER, INK = "#ffffff", "#282828"
TEXT = 13  # pixels: size of the letters


@cache
def font(size: int = TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow carries, the same on every machine; `size` is in pixels."""
    return ImageFont.load_default(size)


def pixels(text: str) -> float:
    """How wide a text is."""
    return font().getlength(text)


def fitted(text: str, most: int) -> str:
    """The text, cut at its end if it is wider than so many pixels."""
    while pixels(text) > most and len(text) > 2:
        text = text.removesuffix("..")[:-1] + ".."  # the font has no ellipsis
    return text
