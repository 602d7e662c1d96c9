"""Matplotlib figures as files."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.text import Text

from gans.files import atomically
from gans.pictures.lettering import file_for, has

_DRAWING = threading.RLock()  # matplotlib's fonts and parsers are the process's


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all; the same figure gives the same bytes."""
    with drawing(figure):
        atomically(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))


@contextmanager
def drawing(figure: Figure) -> Iterator[None]:
    """Draw a figure within: in one thread at a time, without warnings, and with all names as text in a font.

    Ticks of logarithmic axes stay formulas.
    """
    with _DRAWING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text in figure.findobj(Text):
            if isinstance(text, Text) and "\\mathdefault" not in (words := text.get_text()):
                text.set_parse_math("$" not in words)
                letters, font = words.replace("\n", ""), text.get_fontproperties()
                if not has(str(findfont(font)), letters) and (file := file_for(letters)):
                    font.set_file(file)
        yield
