"""The folder of all that users make: apart from what ships; existing files are never overwritten."""

from __future__ import annotations

import os
from itertools import chain, count
from pathlib import Path

from gans.errors import InputError

VARIABLE = "GANS_OUTPUTS"
# its parts
REPORTS, PRESETS, SAMPLES, SPEED, EXTRACTORS = "reports", "presets", "samples", "speed", "extractors"
CHAOS = "chaos"


def outputs() -> Path:
    """The folder of all that is made here: `outputs` in the working directory, or what GANS_OUTPUTS names."""
    return Path(os.environ.get(VARIABLE) or "outputs").expanduser()


def free(folder: Path, stem: str, *suffixes: str) -> tuple[Path, ...]:
    """Files of a folder that were not there: `stem.suffix`, else `stem-2.suffix` and so on, a number for all.

    They are made, empty, so that no other process takes the same names.
    """
    for name in chain([stem], (f"{stem}-{number}" for number in count(2))):
        paths = tuple(folder / f"{name}{suffix}" for suffix in suffixes)
        if not any(map(os.path.lexists, paths)):
            try:
                for path in paths:
                    claim(path)
            except InputError:  # another process was faster
                continue
            return paths
    raise AssertionError("numbers do not end")


def claim(path: Path) -> None:
    """Make an empty file.

    Raises:
        InputError: there is one of this name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        raise taken(path) from None


def taken(path: Path) -> InputError:
    """The error for a file that must not be written over."""
    return InputError(f"{path} exists; name another file, or --force writes over it")
