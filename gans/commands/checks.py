"""What several commands ask of their arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gans.errors import InputError


def at_least(flag: str, value: int, least: int) -> int:
    """The value, or an `InputError` that names its flag."""
    if value < least:
        raise InputError(f"{flag} {value} must be at least {least}")
    return value


@contextmanager
def drawing(name: object) -> Iterator[None]:
    """A generator that has diverged, and so draws NaN, is bad input; `name` tells which one."""
    try:
        yield
    except FloatingPointError as error:
        raise InputError(f"{name}: {error}") from None


def suffixes(paths: Iterable[Path], known: Sequence[str]) -> None:
    """Refuse, before anything is drawn, a file of a kind that is not written."""
    for path in paths:
        if path.suffix.lower() not in known:
            raise InputError(f"--output {path}: '{path.suffix}' is not a kind to write; take {' or '.join(known)}")
