"""Where results go: the tracking store, and the user's folder, in which existing files are never overwritten."""

import os
from contextlib import suppress
from pathlib import Path

from gans.errors import InputError

VARIABLE = "GANS_OUTPUTS"
DEFAULT_URI = "sqlite:///mlflow.db"
# its parts
REPORTS, PRESETS, SAMPLES, EXPORTS = "reports", "presets", "samples", "exports"
SPEED, EXTRACTORS = "speed", "extractors"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else a SQLite file in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def outputs() -> Path:
    """The folder of results: `outputs` in the working directory, or what GANS_OUTPUTS names."""
    return Path(os.environ.get(VARIABLE) or "outputs").expanduser()


def free(folder: Path, stem: str, *suffixes: str) -> tuple[Path, ...]:
    """New files of a folder: `stem.suffix`, or else `stem-2.suffix` and so on, one number for all.

    They are created empty, so that no other process uses the same names.
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
