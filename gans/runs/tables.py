"""What several processes that share a database need: tables that one of them makes while the others wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.pool import NullPool

from gans.runs.locks import turn

KEY = int.from_bytes(b"gans")  # of our lock among all of a server
WAIT = 600  # seconds that MySQL waits for it; PostgreSQL waits as long as it takes
REACH = 10  # seconds to connect
LOCKS = {
    "postgresql": (f"SELECT pg_advisory_lock({KEY})", f"SELECT pg_advisory_unlock({KEY})"),
    "mysql": (f"SELECT GET_LOCK('gans', {WAIT})", "SELECT RELEASE_LOCK('gans')"),
}


@contextmanager
def creating(url: str) -> Iterator[None]:
    """Be the only process that makes, migrates or checks the tables of a database.

    MLflow and Optuna look which tables there are and make those that are missing: two processes on an empty
    database collide between the two.

    Raises:
        SQLAlchemyError: the database cannot be reached.
        ImportError: its driver is not installed.
    """
    parsed = make_url(url) if "://" in url else None
    if parsed is not None and parsed.get_backend_name() == "sqlite" and parsed.database:
        with alone(Path(parsed.database)):
            yield
    elif parsed is not None and (lock := LOCKS.get(parsed.get_backend_name())):
        with connected(parsed) as connection:
            connection.execute(sqlalchemy.text(lock[0]))
            try:
                yield
            finally:
                connection.execute(sqlalchemy.text(lock[1]))
    else:
        yield


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process that makes a database's file; one that is there is used by all at once."""
    lock = path.with_name(f".{path.name}.lock")
    made = path.exists() and not lock.exists()
    if made or not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        yield
    else:
        with turn(lock):
            yield


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """A connection that holds no transaction: one that is open would keep others from changing tables."""
    patience = {"connect_timeout": REACH} if url.get_driver_name().startswith("psycopg") else {}
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, connect_args=patience)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection
