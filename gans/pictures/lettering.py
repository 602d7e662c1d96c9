"""Words on pictures: the ink, the paper, and the fonts."""

import logging
import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont

from gans.data.listing import some

log = logging.getLogger("gans")

PAPER, INK = "#ffffff", "#282828"
TEXT = 13  # pixels: size of the letters
PLACES = (1.0, 0.5, 0.0)  # where a text that is too long is cut: the share of the rest that is before the cut


RESORT = "Last Resort High-Efficiency"  # comes with matplotlib, and has a box for any letter


@cache
def font(text: str = "", size: int = TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow carries or, for a text beyond ASCII, one with its letters; `size` is in pixels."""
    file = None if text.isascii() else file_for(text)
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


@cache
def file_for(text: str) -> str | None:
    """The file of a font with a text's letters: matplotlib's own, or one of this machine; None: no such font."""
    from matplotlib import font_manager, get_data_path  # half a second

    def rank(entry: font_manager.FontEntry) -> tuple[bool, bool, str]:
        return entry.style != "normal", str(entry.weight) not in ("400", "normal", "regular"), entry.fname

    others = (entry for entry in font_manager.fontManager.ttflist if entry.name != RESORT)
    files = (str(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf")), *(e.fname for e in sorted(others, key=rank)))
    return next((file for file in files if has(file, text)), None)


@cache
def has(file: str, text: str) -> bool:
    """Whether a font, which can be drawn at any size, has all letters of a text."""
    from matplotlib.ft2font import FT2Font

    try:
        opened = FT2Font(file)
    except (OSError, RuntimeError):  # it was removed, or is damaged
        return False
    return opened.scalable and all(map(opened.get_char_index, map(ord, text)))


@cache
def class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes as pictures show them: numbers, with a line in the log, if no font has all letters."""
    if file_for("".join(sorted(c for c in {*"".join(names)} if c >= " "))):
        return names
    log.warning(
        "no font on this machine has all letters of the classes (%s): pictures number them from 0; install a font "
        "with them, such as Noto Sans CJK",
        some(names),
    )
    return tuple(map(str, range(len(names))))


def pixels(text: str) -> float:
    """How wide a text is."""
    return font(text).getlength(text)


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
