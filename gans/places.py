"""The folder of all that users make: apart from what ships; existing files are never overwritten."""

from __future__ import annotations

import os
from contextlib import suppress
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
    folder.mkdir(parents=True, exist_ok=True)
    number, name = 1, stem
    while True:
        paths = tuple(folder / f"{name}{suffix}" for suffix in suffixes)
        with suppress(FileExistsError):  # another process may be faster
            if not any(map(os.path.lexists, paths)):
                for path in paths:
                    path.touch(exist_ok=False)
                return paths
        number += 1
        name = f"{stem}-{number}"


def taken(path: Path) -> InputError:
    """The error for a file that must not be written over."""
    return InputError(f"{path} exists; name another file, or overwrite it with --force")
