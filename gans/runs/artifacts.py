"""Where the artifacts of an embedded store lie: beside its database, wherever the two were copied or moved to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from gans.errors import InputError
from gans.runs.databases import sqlite_file

FOLDER = "mlartifacts"
# where MLflow's tables hold such addresses; registered versions of models have them too
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


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
    path = _path(recorded)
    if home is None or FOLDER not in path.parts:
        return path
    behind = len(path.parts) - path.parts[::-1].index(FOLDER)
    beside = home.joinpath(*path.parts[behind:])
    return path if path.exists() and not beside.exists() else beside


def bring_home(uri: str) -> int:
    """Correct the addresses that an embedded store records, for MLflow's own UI, which knows no other place.

    Only what is found beside the database counts as moved (`located`); that is how MLflow's users mend it by hand.

    Args:
        uri: of a store that is there; nothing is done to a server.

    Returns:
        How many addresses were wrong.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    file = sqlite_file(uri)
    if file is None:
        return 0
    with closing(sqlite3.connect(file)) as database, database:
        return sum(_correct(database, table, column, home(uri)) for table, column in _columns(database))


def _columns(database: sqlite3.Connection) -> list[tuple[str, str]]:
    """Tables, and their columns of addresses, as far as this version of MLflow has made them."""
    there = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [(table, column) for table, columns in ADDRESSES.items() if table in there for column in columns]


def _correct(database: sqlite3.Connection, table: str, column: str, home: Path | None) -> int:
    """Correct the addresses in a column; how many were wrong."""
    recorded = database.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
    places = {address: located(address, home) for (address,) in recorded}
    wrong = {
        address: place.as_uri()
        for address, place in places.items()
        if place and place != _path(address) and place.exists()
    }
    command = f"UPDATE {table} SET {column} = ? WHERE {column} = ?"
    database.executemany(command, [(right, address) for address, right in wrong.items()])
    return len(wrong)


def _path(address: str) -> Path:
    """Of an address on a disk."""
    return Path(url2pathname(urlparse(address).path))


def missing(run: str, folder: Path) -> InputError:
    """What to say of a run whose artifacts are not where they should be."""
    return InputError(
        f"the artifacts of run {run} are missing: no folder {folder}; copy {FOLDER} along with its database"
    )
