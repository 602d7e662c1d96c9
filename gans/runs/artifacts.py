"""Where the artifacts of an embedded store lie: beside its database, wherever the two were copied or moved to."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from gans.errors import InputError
from gans.runs.databases import sqlite_file

FOLDER = "mlartifacts"


def home(uri: str) -> Path | None:
    """The folder of all artifacts of an embedded store; None if the store is a server."""
    file = sqlite_file(uri)
    return file.resolve().parent / FOLDER if file else None


def located(recorded: str, home: Path | None) -> Path | None:
    """The folder of a run's artifacts, there or not; None if they are not on a disk of this machine.

    A database records absolute paths. Once it has been moved these are wrong, or those of the original; what lies
    beside the database is its own.

    Args:
        recorded: the run's `artifact_uri`.
        home: of the store it is recorded in, see `home`.
    """
    uri = urlparse(recorded)
    if uri.scheme not in ("", "file"):
        return None
    path = Path(url2pathname(uri.path))
    if home is None or FOLDER not in path.parts:
        return path
    behind = len(path.parts) - path.parts[::-1].index(FOLDER)
    beside = home.joinpath(*path.parts[behind:])
    return path if path.exists() and not beside.exists() else beside


def missing(run: str, folder: Path) -> InputError:
    """What to say of a run whose artifacts are not where they should be."""
    return InputError(
        f"the artifacts of run {run} are missing: no folder {folder}; copy {FOLDER} along with its database"
    )
