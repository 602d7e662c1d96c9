"""Matplotlib figures as files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from matplotlib.figure import Figure

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
    atomically(path, lambda temporary: figure.savefig(temporary, format="png", metadata={"Software": None}))
