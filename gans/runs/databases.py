"""What a person should know of a store at once, before anything heavy is imported and MLflow or Optuna try.

They try again for a minute or more where there is no hope, and do not say whom they wait for. Nothing here imports
more than the standard library, but for databases on servers.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from gans.errors import InputError, first_line
from gans.runs.journal import FILE as JOURNAL_FILE
from gans.urls import DEFAULT_URI, shown

ANSWER = 8.0  # seconds that a server has to answer in all, the look-up of its name included
CONNECT = 5  # seconds for a connection
PATIENCE = 300.0  # seconds that a file which another process holds is waited for
LOOK = 0.5  # seconds between looks at it
SAID = 1.0  # seconds until the wait is told
# packages of drivers that have another name
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class Kind:
    """Whose database is wanted.

    Attributes:
        table: tells it from others.
        name: for people.
        first: of its tables, those that are made before others.
        makes_folders: whether it makes the folders that a file of its own is to lie in.
    """

    table: str
    name: str
    first: frozenset[str]
    makes_folders: bool


MLFLOW = Kind("experiments", "MLflow's tracking store", frozenset({"experiments"}), makes_folders=True)
OPTUNA = Kind(
    "studies", "a sweep's storage (Optuna's)", frozenset({"studies", "version_info"}), makes_folders=False
)
DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
ELSEWHERE = ("http", "https", "databricks", "databricks-uc", "uc")  # that MLflow knows besides


# what names a store, and what to do about one that is no server
TRACKING, FILE = "MLFLOW_TRACKING_URI", f"set MLFLOW_TRACKING_URI, {DEFAULT_URI} for one"
STORAGE = "STORAGE"
DATABASE = "take the URL of a database: STORAGE=sqlite:///sweeps.db, or STORAGE=postgresql://..."


class Unusable(Exception):
    """Why a store cannot be used, in one line."""


class Unreachable(Unusable):
    """Likewise of a server: it may be there again later."""


class Away(InputError):
    """A tracking server that cannot be reached: what it would say stands in journals too."""


def trouble(error: BaseException) -> str:
    """Why a database cannot be used, in one line; a driver that is not installed is named, with the remedy."""
    cause = error.__cause__ or error.__context__ or error
    missing = next((e.name for e in (error, cause) if isinstance(e, ModuleNotFoundError)), None)
    if missing:
        package = DRIVERS.get(missing, missing)
        return f"its driver {missing} is not installed: {sys.executable} -m uv pip install '{package}'"
    return first_line(error)


def check_tracking(url: str) -> None:
    """Refuse a tracking store that cannot be used; one that another process holds is waited for.

    Raises:
        InputError: what is wrong with it, and the remedy.
    """
    try:
        scheme = urlsplit(url).scheme.partition("+")[0]
        if scheme in ("", "file"):
            raise Unusable("MLflow no longer writes to folders of files")
        plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
        if scheme not in (*DATABASES, *ELSEWHERE, *plugins) and not url.startswith("databricks"):
            raise Unusable(f"MLflow knows no {scheme}://")
        check(url, MLFLOW)
    except Unusable as error:
        kind = Away if isinstance(error, Unreachable) else InputError
        raise kind(f"cannot use the tracking store {shown(url)}: {error}; {remedy(url, TRACKING, FILE)}") from None


def check_reading(url: str, runs: Path) -> bool:
    """Refuse a tracking store that cannot be read, unless the journals below a folder can in its place.

    Returns:
        Whether the store answers; that it does not is said.

    Raises:
        InputError: what is wrong with it, and the remedy.
    """
    try:
        check_tracking(url)
    except Away as error:
        if not any(runs.rglob(JOURNAL_FILE)):
            raise
        print(f"{error}; what follows is from the journals below {runs}", file=sys.stderr)
        return False
    return True


def check_storage(url: str) -> None:
    """Refuse a sweep's storage that is no database, or one that cannot be used.

    Raises:
        InputError: what is wrong with it, and the remedy.
    """
    try:
        if "://" not in url:
            raise Unusable("it is no URL")
        check(url, OPTUNA)
    except Unusable as error:
        raise InputError(
            f"cannot use the storage {shown(url)}: {error}; {remedy(url, STORAGE, DATABASE)}"
        ) from None


def check(url: str, kind: Kind) -> None:
    """See whether a database or a server can be used.

    Raises:
        Unusable: it is not there, is no database, or is another program's.
    """
    if url.startswith("sqlite:///"):
        _sqlite(sqlite_file(url), kind)
    elif url.startswith(("http://", "https://")):
        _in_time(lambda: _http(url))
    elif url.startswith(DATABASES):
        _in_time(lambda: _server(url, kind))


def remedy(url: str, variable: str, otherwise: str) -> str:
    """What to do about a database that cannot be used, in a few words.

    Args:
        url: of the database.
        variable: what names it.
        otherwise: what to do if it is no server.
    """
    kind = url.partition("://")[0].partition("+")[0] if "://" in url else ""
    if kind in ("postgresql", "mysql", "mssql"):
        return f"check that its server runs, and user, password, host, port and name of the database in {variable}"
    if kind in ("http", "https"):
        return f"check that the server runs, and its address in {variable}"
    return otherwise


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for another kind of store, and for one in memory."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if url.startswith("sqlite:///") and path and path != ":memory:" else None


def missing(url: str) -> bool:
    """Whether a store is a file that nobody has written yet: there is nothing to be read from it."""
    path = sqlite_file(url)
    return path is not None and not path.exists()


# --- files


def _sqlite(path: Path | None, kind: Kind) -> None:
    if path is None:
        return
    if not path.exists():
        _writable_folder(path, kind)
        return
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    if start and start != MAGIC:
        raise Unusable(f"{path} is no SQLite database")
    tables = _tables(path)
    _of_kind(tables, kind)
    _no_stranger(tables, kind)


def _writable_folder(path: Path, kind: Kind) -> None:
    """Refuse a file that could not be made: its folder is no folder, or not to be written to."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise Unusable(f"{folder} is no directory")
    if folder != path.absolute().parent and not kind.makes_folders:
        raise Unusable(f"there is no folder {path.parent}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unusable(f"no permission to write in {folder}")


def _tables(path: Path) -> set[str]:
    """The names of a SQLite file's tables, once no other process holds it for itself."""
    since, told = time.monotonic(), False
    mode = (
        "rw" if os.access(path, os.W_OK) else "ro"
    )  # the former: what a killed process left may have to be undone
    while True:
        try:
            database = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=0)
            try:
                return {
                    name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                }
            finally:
                database.close()
        except sqlite3.Error as error:
            waited = time.monotonic() - since
            if "locked" not in str(error):
                raise Unusable(f"{path}: {first_line(error)}") from None
            if waited > PATIENCE:
                raise Unusable(f"another process has held {path} for {waited:.0f} s; end it") from None
            if waited > SAID and not told:
                told = True
                print(f"waiting for {path}, which another process holds", file=sys.stderr, flush=True)
            time.sleep(LOOK)


def _no_stranger(tables: set[str], kind: Kind) -> None:
    """Refuse a file that holds tables, and none of ours: already to read it, MLflow would make its own there."""
    if tables and not tables & kind.first:
        raise Unusable(f"it is another program's database, with a table {min(tables)}")


def _of_kind(tables: set[str], kind: Kind) -> None:
    """Refuse another program's database: to make tables in it would spoil it for both."""
    other = OPTUNA if kind is MLFLOW else MLFLOW
    if other.table in tables and kind.table not in tables:
        raise Unusable(f"it is {other.name}, not {kind.name}")


# --- servers


def _in_time(ask: Callable[[], None]) -> None:
    """Ask a server in a thread of its own, since the look-up of a name has no time limit."""
    told: list[BaseException | None] = []

    def attempt() -> None:
        try:
            ask()
            told.append(None)
        except BaseException as error:  # handed over to the thread that waits
            told.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(ANSWER)
    if not told:
        raise Unreachable(f"no answer within {ANSWER:g} s")
    if told[0] is not None:
        raise told[0]


def _http(url: str) -> None:
    """Any answer of a server will do, but one that says that it is broken; it is asked without credentials."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health")
    unverified = ssl._create_unverified_context()  # MLflow knows which certificates to trust
    try:
        with urllib.request.urlopen(urlunsplit(address), timeout=CONNECT, context=unverified):
            return
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Unreachable(f"its server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(getattr(reason, "strerror", None) or first_line(Exception(reason))) from None
    except ValueError as error:  # no host
        raise Unusable(first_line(error)) from None


def _server(url: str, kind: Kind) -> None:
    """Connect to a database and look at its tables."""
    import sqlalchemy
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        address = sqlalchemy.make_url(url)
        if address.host and address.port:  # plain words if nobody listens; more than the driver's own
            socket.create_connection((address.host, address.port), CONNECT).close()
        engine = sqlalchemy.create_engine(address, connect_args={"connect_timeout": CONNECT})
        try:
            tables = set(sqlalchemy.inspect(engine).get_table_names())
        finally:
            engine.dispose()
    except OperationalError as error:
        raise Unreachable(trouble(error.orig or error)) from None
    except (SQLAlchemyError, ValueError, ImportError) as error:
        raise Unusable(trouble(getattr(error, "orig", None) or error)) from None
    except OSError as error:
        raise Unreachable(error.strerror or first_line(error)) from None
    _of_kind(tables, kind)
