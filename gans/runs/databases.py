"""Checks of stores before slow imports; an unusable one is refused in one line.

MLflow and Optuna retry hopeless connections for a minute or more, without naming them.
"""

import os
import re
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from http.client import HTTPException
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from gans.errors import InputError, first_line, shown
from gans.files import DEFAULT_URI

ANSWER = 8.0  # seconds that a server has to answer in all, the look-up of its name included
PATIENCE = 30.0  # seconds that a file which another process holds is waited for
PAUSE = 2.0  # seconds that another process takes to make the tables of an empty database
# packages of drivers that have another name
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
DATABASES = ("postgresql", "mysql", "mssql")  # on servers
STORES = ("sqlite", *DATABASES, "http", "https", "databricks", "databricks-uc", "uc")  # that MLflow writes to
Opened = TypeVar("Opened")


class Away(InputError):
    """A server that cannot be reached: it may be there again later."""


@dataclass(frozen=True)
class Kind:
    """A kind of store: its name, the variable that holds its address, an example, and a table that it has."""

    noun: str
    variable: str
    example: str
    table: str

    def refusal(self, url: str, why: object) -> str:
        """What is wrong with a store, and the remedy."""
        remedy = f"set {self.variable}, for example to {self.example}"
        if "://" in url and not sqlite_file(url):
            remedy = f"check that its server runs, and its address in {self.variable}"
        if re.search("error code 40[13]", str(why)):
            remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        return f"cannot use the {self.noun} {shown(url)}: {why}; {remedy}"


MLFLOW = Kind("tracking store", "MLFLOW_TRACKING_URI", DEFAULT_URI, "experiments")
OPTUNA = Kind("storage", "STORAGE", "sqlite:///sweeps.db", "studies")


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for another kind of store, and for one in memory."""
    path = url.removeprefix("sqlite:///").partition("?")[0]
    return Path(path) if url.startswith("sqlite:///") and path and path != ":memory:" else None


def missing(url: str) -> bool:
    """Whether a store is a file that does not exist yet."""
    path = sqlite_file(url)
    return path is not None and not path.exists()


def opened(url: str, kind: Kind, open: Callable[[], Opened]) -> Opened:
    """Open a store that passes the check; an InputError says what is wrong with it, and the remedy.

    It is tried twice, since two processes that make its tables collide.
    """
    check(url, kind)
    if path := sqlite_file(url):
        path.parent.mkdir(parents=True, exist_ok=True)
    for pause in (PAUSE, 0.0):
        try:
            return open()
        except Exception as error:
            why = first_line(error)
            time.sleep(pause)
    raise InputError(kind.refusal(url, why))


def check(url: str, kind: Kind = MLFLOW) -> None:
    """Refuse a store that is missing, invalid or another program's; wait for a locked file.

    The InputError has the remedy; it is `Away` for a server without an answer.
    """
    scheme = url.partition("://")[0].partition("+")[0]
    path = sqlite_file(url)
    try:
        if kind is MLFLOW and scheme not in (*STORES, *entry_points(group="mlflow.tracking_store").names):
            raise InputError("MLflow writes to a database or a server, no longer to folders of files")
        if path and path.exists():
            _check_tables(url, kind, connect_args={"timeout": PATIENCE})
        elif path:
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
                raise InputError(f"no file can be created in {folder}")
        elif kind is OPTUNA or scheme in DATABASES:
            in_time(lambda: _check_tables(url, kind), ANSWER)
        elif scheme in ("http", "https"):
            in_time(lambda: _check_http(url), ANSWER)
    except InputError as error:
        raise type(error)(kind.refusal(url, error)) from None


def in_time(attempt: Callable[[], Opened], seconds: float) -> Opened:
    """The result of a call, or its exception.

    `Away` if it takes longer, as looking up a name may: its thread goes on.
    """
    outcome: Future[Opened] = Future()

    def work() -> None:
        try:
            outcome.set_result(attempt())
        except BaseException as error:  # raised in the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        raise Away(f"no answer within {seconds:g} s") from None


def _check_http(url: str) -> None:
    """Accept any answer of a server but a server error; no credentials are sent."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/health")
    try:
        urllib.request.urlopen(address.geturl(), timeout=2 * ANSWER).close()  # `in_time` gives up before
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise Away(f"its server answers {error.code} {error.reason}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # MLflow decides which certificates to trust
            raise Away(getattr(reason, "strerror", None) or first_line(Exception(reason))) from None


def _check_tables(url: str, kind: Kind, **how: object) -> None:
    """Refuse another program's database: to make tables in it would spoil it for both."""
    import sqlalchemy
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool, **how)
        tables = sqlalchemy.inspect(engine).get_table_names()
    except ImportError as error:
        package = DRIVERS.get(error.name or "", error.name)
        raise InputError(f"{first_line(error)}: {sys.executable} -m uv pip install '{package}'") from None
    except (SQLAlchemyError, ValueError) as error:
        away = isinstance(error, OperationalError) and sqlite_file(url) is None
        raise (Away if away else InputError)(first_line(getattr(error, "orig", None) or error)) from None
    if tables and kind.table not in tables:
        raise InputError(f"it is another program's database, with tables {', '.join(sorted(tables)[:3])}")
