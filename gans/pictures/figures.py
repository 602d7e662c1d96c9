"""Matplotlib figures as files."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.text import Text
from PIL import Image

from gans.pictures.grids import save_picture
from gans.pictures.lettering import file_for, has

_DRAWING = threading.RLock()  # matplotlib's fonts and parsers are the process's


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG; the same figure gives the same bytes."""
    canvas = FigureCanvasAgg(figure)
    with drawing(figure):
        canvas.draw()
    save_picture(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"), path)


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
