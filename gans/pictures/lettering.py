"""Words on pictures: the ink, the paper, and the font that Pillow carries."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache

from PIL import ImageFont

PAPER, INK = "#ffffff", "#282828"
TEXT = 13  # pixels: size of the letters
PLACES = (1.0, 0.5, 0.0)  # where a text that is too long is cut: the share of the rest that is before the cut


@cache
def font(size: int = TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow carries, the same on every machine; `size` is in pixels."""
    return ImageFont.load_default(size)


def pixels(text: str) -> float:
    """How wide a text is."""
    return font().getlength(text)


def fitted(texts: Iterable[str], most: int) -> dict[str, str]:
    """Texts cut to so many pixels, as `shortened`."""
    return shortened(texts, lambda text: pixels(text) <= most, gap="..")  # the font has no ellipsis


def brief(texts: Iterable[str], letters: int) -> dict[str, str]:
    """Texts cut to so many letters, as `shortened`."""
    return shortened(texts, lambda text: len(text) <= letters)


def shortened(texts: Iterable[str], fits: Callable[[str], bool], gap: str = "…") -> dict[str, str]:
    """Each text as it is or, if it does not fit, without a piece of it.

    The piece is cut from the same place of all: the end, else the middle, else the start, whichever leaves no two
    texts that read alike, if there is such a place.
    """
    apart = list(dict.fromkeys(texts))
    ways = [{text: _cut(text, fits, gap, place) for text in apart} for place in PLACES]
    return next((way for way in ways if len(set(way.values())) == len(apart)), ways[0])


def _cut(text: str, fits: Callable[[str], bool], gap: str, place: float) -> str:
    """The text with the shortest piece missing that lets it fit."""
    if fits(text):
        return text
    for kept in range(len(text) - 1, 0, -1):
        before = math.ceil(place * kept)
        cut = text[:before].rstrip() + gap + text[len(text) - kept + before :].lstrip()
        if fits(cut):
            return cut
    return gap
