"""Matplotlib figures as files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from matplotlib.figure import Figure
from matplotlib.text import Text

from gans.files import atomically

_P = ParamSpec("_P")
_R = TypeVar("_R")
_DRAWING = threading.RLock()


def one_at_a_time(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that draws with matplotlib, in one thread at a time: its fonts and parsers are the process's."""

    @wraps(draw)
    def alone(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with _DRAWING:
            return draw(*args, **kwargs)

    return alone


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all; the same figure gives the same bytes."""
    names_as_text(figure)
    atomically(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))


def names_as_text(figure: Figure) -> None:
    """Let no dollar sign of a name begin a formula; ticks of logarithmic axes stay formulas."""
    for text in figure.findobj(Text):
        if isinstance(text, Text) and "\\mathdefault" not in text.get_text():
            text.set_parse_math("$" not in text.get_text())
