"""Transactions. `Store.read()` is a consistent snapshot, `Store.write()` an exclusive transaction that is on
disk when it ends.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_BUSY_TIMEOUT_MS = 10_000
_POOL_SIZE = 8


class StoreUnavailable(Exception):
    """The database could not be reached, was locked for too long, or could not write. Nothing of the
    transaction remains.

    Look at disk space, file permissions and other processes that hold the database; then try again.
    """


def sqlite_url(path: Path) -> URL:
    """The database URL of a SQLite file."""
    return URL.create("sqlite", database=str(path))


class Store:
    """The database. Shared by all threads of the process; other processes may have the same file open."""

    def __init__(self, url: URL | str) -> None:
        """url: `sqlite:///path`. ValueError for another database."""
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            raise ValueError("the database URL must begin with sqlite://")
        if parsed.database in (None, "", ":memory:"):
            raise ValueError("the database must be a file: an in-memory database is lost when the process ends")
        _make_private(Path(str(parsed.database)))
        self.engine = _sqlite_engine(parsed)
        # SQLite has one writer. Waiting here is fair and wakes at once, where SQLite's own waiting polls with
        # growing sleeps; that is left for writers in other processes.
        self._one_writer = threading.Lock()
        self._of_thread = threading.local()
        self._kept: weakref.WeakSet[Connection] = weakref.WeakSet()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: every query inside sees the same committed state. Raises StoreUnavailable."""
        with _typed_errors(), self._connection() as connection, _transaction(connection, "BEGIN"):
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """An exclusive transaction: what is read inside is still true at the commit, and the commit is
        durable on return.

        Committed when the block ends, rolled back when it raises. Raises StoreUnavailable. Not re-entrant.
        """
        with (
            _typed_errors(),
            self._connection() as connection,
            self._one_writer,
            _transaction(connection, "BEGIN IMMEDIATE"),
        ):
            yield connection

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        for connection in list(self._kept):
            connection.close()
        self._of_thread = threading.local()
        self.engine.dispose()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """This thread's connection. A worker thread does one small transaction after another, and taking a
        connection from the pool for each costs more than its statements do.
        """
        connection: Connection | None = self._of_thread.__dict__.pop("connection", None)
        if connection is None:
            connection = self.engine.connect()
            self._kept.add(connection)
        try:
            yield connection
        except BaseException:
            driver: Any = connection.connection.driver_connection
            if driver.in_transaction:  # the rollback failed too: this connection must not be used again
                connection.invalidate()
            connection.close()
            raise
        self._of_thread.connection = connection


@contextmanager
def _transaction(connection: Connection, begin: str) -> Iterator[None]:
    # Spoken to the driver itself: SQLAlchemy leaves BEGIN to the driver, whose own would come late and not be
    # exclusive, and a listener for its "begin" event would make every statement of the engine dearer.
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(begin)
    except sqlite3.OperationalError as error:
        raise StoreUnavailable("the database is locked by another process, or cannot be written") from error
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable("the database file cannot be used") from error
    try:
        yield
        # SQLAlchemy knows of statements that went through it, the driver of all.
        connection.commit()
        driver.commit()
    except BaseException:
        try:
            connection.rollback()
        finally:
            driver.rollback()
        raise


@contextmanager
def _typed_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        raise StoreUnavailable("the database did not take the transaction") from error
    except sqlite3.DatabaseError as error:  # from COMMIT itself: a full disk, say
        raise StoreUnavailable("the database could not write the transaction") from error
    except DatabaseError as error:
        # "file is not a database" and a corrupt file arrive as the plain class; a violated constraint has its
        # own and is a bug.
        if type(error) is DatabaseError:
            raise StoreUnavailable("the database file cannot be used") from error
        raise


def _make_private(path: Path) -> None:
    """A new database file is its owner's alone; SQLite gives its log the same permissions. Others are left as is."""
    # O_EXCL: closing a file drops all of this process's POSIX locks on it. If it exists, another connection of ours may
    # hold SQLite's, and without them another process deletes the log that we go on writing to.
    with contextlib.suppress(OSError):  # the first connection will say what is wrong with this place
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url,
        pool_size=_POOL_SIZE,
        # Each thread keeps one, so the number of threads is the bound.
        max_overflow=-1,
        # Every transaction here ends in COMMIT or ROLLBACK, so there is nothing left to reset.
        pool_reset_on_return=None,
        connect_args={
            "check_same_thread": False,
            "timeout": _BUSY_TIMEOUT_MS / 1000,
            "cached_statements": 256,
        },
        # Parameters are key material; they must not reach an exception text.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # The driver would otherwise begin transactions by itself, late and not exclusively.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "secure_delete=ON",
            "trusted_schema=OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine
