"""Stores are checked before anything heavy is imported; one that cannot be used is refused in a line.

MLflow and Optuna try again for a minute or more where there is no hope, and do not name what they wait for.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from gans.errors import InputError, first_line
from gans.runs.events import run_paths
from gans.runs.locks import turn
from gans.urls import DEFAULT_URI, shown

ANSWER = 8.0  # seconds that a server has to answer in all, the look-up of its name included
CONNECT = 5  # seconds for a connection
PATIENCE = 300.0  # seconds that a file which another process holds is waited for
SAID = 1.0  # seconds until the wait is reported
# packages of drivers that have another name
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
MAGIC = b"SQLite format 3\0"
KEY = int.from_bytes(b"gans")  # of our lock among all of a server
LOCKS = {
    "postgresql": (f"SELECT pg_advisory_lock({KEY})", f"SELECT pg_advisory_unlock({KEY})"),
    "mysql": ("SELECT GET_LOCK('gans', 600)", "SELECT RELEASE_LOCK('gans')"),
}


class Unusable(InputError):
    """A store that cannot be used: why, in one line."""


class Away(Unusable):
    """A server that cannot be reached: it may be there again later."""


@dataclass(frozen=True)
class Kind:
    """Whose database is wanted.

    Attributes:
        name: for people; and `noun`, in a few words.
        tables: of these, its database has at least one.
        variable: what names it.
        otherwise: the remedy where it is no server.
    """

    name: str
    noun: str
    tables: frozenset[str]
    variable: str
    otherwise: str

    def refusal(self, url: str, why: object, error: type[InputError] = InputError) -> InputError:
        """What is wrong with a store, and the remedy."""
        return error(f"cannot use the {self.noun} {shown(url)}: {why}; {self.remedy(url)}")

    def remedy(self, url: str) -> str:
        kind = scheme(url)
        if kind in SERVERS:
            login = "user, password, host, port and name of the database in"
            return f"check that its server runs, and {login} {self.variable}"
        if kind in ("http", "https"):
            return f"check that the server runs, and its address in {self.variable}"
        return self.otherwise


MLFLOW = Kind(
    "MLflow's tracking store",
    "tracking store",
    frozenset({"experiments"}),
    "MLFLOW_TRACKING_URI",
    f"set MLFLOW_TRACKING_URI, {DEFAULT_URI} for one",
)
OPTUNA = Kind(
    "a sweep's storage (Optuna's)",
    "storage",
    frozenset({"studies", "version_info"}),
    "STORAGE",
    "take the URL of a database: STORAGE=sqlite:///sweeps.db, or STORAGE=postgresql://...",
)
SERVERS = ("postgresql", "mysql", "mssql")  # of databases
TRACKING = ("sqlite", *SERVERS, "http", "https", "databricks", "databricks-uc", "uc")  # that MLflow takes


def scheme(url: str) -> str:
    """`postgresql` of `postgresql+psycopg://...`; empty of a path."""
    return url.partition("://")[0].partition("+")[0] if "://" in url else ""


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
        InputError: what is wrong with it, and the remedy; `Away` if it is a server without an answer.
    """
    check(url, MLFLOW)


def check_storage(url: str) -> None:
    """Likewise of a sweep's storage."""
    check(url, OPTUNA)


def check(url: str, kind: Kind) -> None:
    """Refuse a database or server that is not there, is none, or is another program's."""
    try:
        if kind is MLFLOW:
            _check_scheme(url)
        elif not scheme(url):
            raise Unusable("it is no URL")
        if path := sqlite_file(url):
            _check_sqlite(path, kind)
        elif scheme(url) in ("http", "https"):
            _in_time(lambda: _check_http(url))
        elif scheme(url) in SERVERS:
            _in_time(lambda: _check_server(url, kind))
    except Unusable as error:
        raise kind.refusal(url, error, type(error)) from None


def _check_scheme(url: str) -> None:
    name = scheme(url)
    if name in ("", "file") and not url.startswith("databricks"):
        raise Unusable("MLflow no longer writes to folders of files")
    if name and name not in (*TRACKING, *(plugin.name for plugin in entry_points(group="mlflow.tracking_store"))):
        raise Unusable(f"MLflow has no {name}://")


def check_reading(url: str, runs: Path) -> bool:
    """Refuse a tracking store that cannot be read, unless there are runs below a folder to be read in its place.

    Returns:
        Whether the store answers; that it does not is reported.

    Raises:
        InputError: what is wrong with it, and the remedy.
    """
    try:
        check_tracking(url)
    except Away as error:
        if not any(run_paths(runs)):
            raise
        print(f"{error}; what follows is read from {runs}", file=sys.stderr)
        return False
    return True


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for another kind of store, and for one in memory."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if url.startswith("sqlite:///") and path and path != ":memory:" else None


def missing(url: str) -> bool:
    """Whether a store is a file that does not exist yet."""
    path = sqlite_file(url)
    return path is not None and not path.exists()


# --- files


def _check_sqlite(path: Path, kind: Kind) -> None:
    if not path.exists():
        _check_folder(path, makes_folders=kind is MLFLOW)
        return
    if _beginning(path) not in (b"", MAGIC):
        raise Unusable(f"{path} is no SQLite database")
    tables = _tables(path)
    _check_kind(tables, kind)
    if tables and not tables & kind.tables:  # already to read it, MLflow would make its own there
        raise Unusable(f"it is another program's database, with a table {min(tables)}")


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC))
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None


def _check_folder(path: Path, makes_folders: bool) -> None:
    """Refuse a file that could not be made: its folder is no folder, or not to be written to."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise Unusable(f"{folder} is no directory")
    if folder != path.absolute().parent and not makes_folders:
        raise Unusable(f"there is no folder {path.parent}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Unusable(f"no permission to write in {folder}")


def _tables(path: Path) -> set[str]:
    """The names of a SQLite file's tables, once no other process holds it for itself."""
    for seconds in (SAID, PATIENCE):
        try:
            return _read_tables(path, seconds)
        except sqlite3.Error as error:
            if "locked" not in str(error):
                raise Unusable(f"{path}: {first_line(error)}") from None
        if seconds < PATIENCE:
            print(f"waiting for {path}, which another process holds", file=sys.stderr, flush=True)
    raise Unusable(f"another process has held {path} for {PATIENCE:.0f} s; end it")


def _read_tables(path: Path, timeout: float) -> set[str]:
    # to be written to: what a killed process left may have to be undone
    mode = "rw" if os.access(path, os.W_OK) else "ro"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", timeout, uri=True)) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _check_kind(tables: set[str], kind: Kind) -> None:
    """Refuse another program's database: to make tables in it would spoil it for both."""
    other = OPTUNA if kind is MLFLOW else MLFLOW
    if tables & other.tables and not tables & kind.tables:
        raise Unusable(f"it is {other.name}, not {kind.name}")


# --- servers


def _in_time(attempt: Callable[[], None]) -> None:
    """Try a server in a thread of its own, since the look-up of a name has no time limit."""
    outcome: list[BaseException | None] = []

    def work() -> None:
        try:
            attempt()
            outcome.append(None)
        except BaseException as error:  # raised in the thread that waits
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(ANSWER)
    if not outcome:
        raise Away(f"no answer within {ANSWER:g} s")
    if outcome[0] is not None:
        raise outcome[0]


def _check_http(url: str) -> None:
    """Accept any answer of a server but a server error; no credentials are sent."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health")
    unverified = ssl._create_unverified_context()  # MLflow decides which certificates to trust
    try:
        with urllib.request.urlopen(urlunsplit(address), timeout=CONNECT, context=unverified):
            return
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Away(f"its server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Away(getattr(reason, "strerror", None) or first_line(Exception(reason))) from None
    except ValueError as error:  # no host
        raise Unusable(first_line(error)) from None


def _check_server(url: str, kind: Kind) -> None:
    """Connect to a database and look at its tables."""
    import sqlalchemy
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        address = sqlalchemy.make_url(url)
        if address.host and address.port:  # a plainer error than the driver's if the port is closed
            socket.create_connection((address.host, address.port), CONNECT).close()
        engine = sqlalchemy.create_engine(address, connect_args={"connect_timeout": CONNECT})
        try:
            _check_kind(set(sqlalchemy.inspect(engine).get_table_names()), kind)
        finally:
            engine.dispose()
    except OperationalError as error:
        raise Away(trouble(error.orig or error)) from None
    except (SQLAlchemyError, ValueError, ImportError) as error:
        raise Unusable(trouble(getattr(error, "orig", None) or error)) from None
    except OSError as error:
        raise Away(error.strerror or first_line(error)) from None


@contextmanager
def creating(url: str) -> Iterator[None]:
    """Be the only process that makes, migrates or checks the tables of a database.

    MLflow and Optuna look which tables there are and make those that are missing: two processes on an empty
    database collide between the two.

    Raises:
        SQLAlchemyError: the database cannot be reached.
        ImportError: its driver is not installed.
    """
    file, kind = sqlite_file(url), scheme(url)
    if file and _may_lack_tables(file, lock := file.with_name(f".{file.name}.lock")):
        with turn(lock):
            yield
    elif kind in LOCKS:
        import sqlalchemy

        limit = {"connect_timeout": CONNECT}
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, connect_args=limit)
        # no transaction: one that is open would keep others from changing tables
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text(LOCKS[kind][0]))
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text(LOCKS[kind][1]))
    else:
        yield


def _may_lack_tables(file: Path, lock: Path) -> bool:
    """Whether a database's file does not exist, or a process is just making it."""
    made = file.exists() and not lock.exists()
    return not made and file.parent.is_dir() and os.access(file.parent, os.W_OK)
