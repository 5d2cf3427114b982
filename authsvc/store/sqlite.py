"""SQLite: one file, one writer, write-ahead log, every commit on disk before it returns."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL

from .backend import Backend
from .turn_file import turn_file

_BUSY_TIMEOUT_MS = 10_000
_POOL_SIZE = 8


def sqlite_url(path: Path) -> URL:
    """The database URL of a SQLite file."""
    return URL.create("sqlite", database=str(path))


def sqlite_backend(url: URL) -> Backend:
    """ValueError for a database that is not a file."""
    if url.database in (None, "", ":memory:"):
        raise ValueError("the database must be a file: an in-memory database is lost when the process ends")
    _make_private(Path(str(url.database)))
    # SQLite has one writer. Waiting here is fair and wakes at once, where SQLite's own waiting polls with growing
    # sleeps; that is left for writers in other processes.
    one_writer = threading.Lock()
    turns = turn_file(Path(str(url.database)))
    return Backend(
        engine=_engine(url),
        begin_read="BEGIN",
        begin_write="BEGIN IMMEDIATE",
        begin_enrolment="BEGIN IMMEDIATE",
        # As durable as the others: how durable is a property of the connection here, and one that a verdict is written
        # on must never be left with less.
        begin_counters="BEGIN IMMEDIATE",
        begin=lambda driver, text: driver.execute(text),
        commit=lambda driver: driver.commit(),
        look=lambda driver: None,
        driver_error=sqlite3.DatabaseError,
        writers_turn=lambda: one_writer,
        in_transaction=lambda driver: bool(driver.in_transaction),
        is_aborted=lambda driver: False,
        is_lost=lambda driver: False,
        take_turn=lambda _driver, key, wait: turns.take(key, wait=wait),
        give_turn=lambda _driver, key: turns.give(key),
        without_values=lambda error: error,
    )


def _make_private(path: Path) -> None:
    """A new database file is its owner's alone; SQLite gives its log the same permissions. Others are left as is."""
    # O_EXCL: closing a file drops all of this process's POSIX locks on it. If it exists, another connection of ours may
    # hold SQLite's, and without them another process deletes the log that we go on writing to.
    with contextlib.suppress(OSError):  # the first connection will say what is wrong with this place
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _engine(url: URL) -> Engine:
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
