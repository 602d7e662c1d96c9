"""What several commands ask of their arguments."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gans.errors import InputError
from gans.places import taken


def at_least(flag: str, value: int, least: int) -> int:
    """The value, or an `InputError` that names its flag."""
    if value < least:
        raise InputError(f"{flag} {value} must be at least {least}")
    return value


def at_most(flag: str, value: int, most: int) -> int:
    """The value, or an `InputError` that names its flag."""
    if value > most:
        raise InputError(f"{flag} {value} must be at most {most}")
    return value


def finite(flag: str, value: float) -> float:
    """The value, or an `InputError` that names its flag: argparse takes `nan` and `inf` for numbers."""
    if not math.isfinite(value):
        raise InputError(f"{flag} {value} must be a finite number")
    return value


@contextmanager
def drawing(name: object) -> Iterator[None]:
    """A generator that has diverged, and so draws NaN, is bad input; `name` tells which one."""
    try:
        yield
    except FloatingPointError as error:
        raise InputError(f"{name}: {error}") from None


def positive(flag: str, value: int) -> int:
    return at_least(flag, value, 1)


def writable(paths: Iterable[Path], known: Sequence[str], force: bool) -> None:
    """Refuse, before anything is drawn, a file of another kind or, without force, one that is there."""
    for path in paths:
        if path.suffix.lower() not in known:
            raise InputError(f"--output {path}: '{path.suffix}' is not a kind to write; take {' or '.join(known)}")
        if os.path.lexists(path) and not force:
            raise taken(path)
