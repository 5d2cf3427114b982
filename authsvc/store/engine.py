"""Transactions. `Store.read()` is a consistent snapshot; `Store.write()` and `write_enrolment()` are on disk when they
end.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .backend import Backend
from .postgresql import postgresql_backend
from .sqlite import sqlite_backend

_BACKENDS = {"sqlite": sqlite_backend, "postgresql": postgresql_backend}


class StoreUnavailable(Exception):
    """The database could not be reached, was locked for too long, or could not write. Unless the connection broke
    during the commit itself, nothing of the transaction remains.

    Look at the database's server or file, disk space, permissions, and other programs that hold it; then try again.
    """


class Store:
    """The database. Shared by all threads of the process; other processes may use it at the same time."""

    def __init__(self, url: URL | str) -> None:
        """url: `sqlite:///path` or `postgresql://…`. ValueError for another database."""
        parsed = make_url(url)
        backend = _BACKENDS.get(parsed.get_backend_name())
        if backend is None:
            raise ValueError("the database URL must begin with sqlite:// or postgresql://")
        self._backend: Backend = backend(parsed)
        self.engine = self._backend.engine
        self._of_thread = threading.local()
        self._kept: weakref.WeakSet[Connection] = weakref.WeakSet()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: every query inside sees the same committed state. Raises StoreUnavailable."""
        with self._typed_errors(), self._transaction(self._backend.begin_read) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction beside which nobody writes: what is read inside is still true at the commit, and the commit is
        durable on return.

        Committed when the block ends, rolled back when it raises. Raises StoreUnavailable. Not re-entrant.
        """
        with (
            self._typed_errors(),
            self._backend.writers_turn(),
            self._transaction(self._backend.begin_write) as connection,
        ):
            yield connection

    @contextmanager
    def write_enrolment(self) -> Iterator[Connection]:
        """The same for a transaction about one enrolment, which must load its row with `lock=True` before anything
        else. Where the database can, those of other enrolments go on beside it.
        """
        with (
            self._typed_errors(),
            self._backend.writers_turn(),
            self._transaction(self._backend.begin_enrolment) as connection,
        ):
            yield connection

    @contextmanager
    def write_counters(self) -> Iterator[Connection]:
        """A transaction about rows of `rate_limits` and nothing else: beside all others where the database can, and
        not certain to be on disk when it ends.
        """
        with (
            self._typed_errors(),
            self._backend.writers_turn(),
            self._transaction(self._backend.begin_counters) as connection,
        ):
            yield connection

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        for connection in list(self._kept):
            connection.close()
        self._of_thread = threading.local()
        self.engine.dispose()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        connection = self._begun(begin)
        driver = connection.connection.driver_connection
        assert driver is not None
        try:
            try:
                yield connection
                if self._backend.is_aborted(driver):
                    raise RuntimeError("a statement failed and the transaction went on: nothing of it would be kept")
                # SQLAlchemy knows of statements that went through it, the driver of all.
                connection.commit()
                driver.commit()
            except BaseException:
                try:
                    connection.rollback()
                finally:
                    driver.rollback()
                raise
        except BaseException:
            if self._backend.is_lost(driver) or self._backend.in_transaction(driver):
                # The rollback failed too: this connection must not be used again.
                connection.invalidate()
            connection.close()
            raise
        self._of_thread.connection = connection

    def _begun(self, begin: str) -> Connection:
        """This thread's connection, inside a transaction. A worker thread does one small transaction after another, and
        taking a connection from the pool for each costs more than its statements do.
        """
        kept: Connection | None = self._of_thread.__dict__.pop("connection", None)
        connection = kept if kept is not None else self._connected()
        for last_try in (False, True):
            # Spoken to the driver itself: SQLAlchemy leaves BEGIN to the driver, whose own would come late and without
            # the lock, and a listener for its "begin" event would make every statement of the engine dearer.
            driver = connection.connection.driver_connection
            assert driver is not None
            try:
                driver.execute(begin)
                return connection
            except self._backend.driver_error as error:
                lost = self._backend.is_lost(driver)
                try:
                    if not lost:
                        driver.rollback()
                except self._backend.driver_error:
                    lost = True
                if lost:
                    connection.invalidate()
                connection.close()
                if not lost or last_try:
                    raise StoreUnavailable("the database is locked by others, or cannot be used") from error
            # The server was restarted since. Nothing has been done yet in this transaction, so it can begin again; the
            # other connections in the pool are as old as this one.
            self.engine.dispose()
            connection = self._connected()
        raise AssertionError("the second try ends above")

    def _connected(self) -> Connection:
        try:
            connection = self.engine.connect()
        except ProgrammingError:  # of the URL: a parameter that the driver does not know
            raise StoreUnavailable("database_url has a parameter that the database's driver refuses") from None
        self._kept.add(connection)
        return connection

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, InternalError, PoolTimeout) as error:
            raise StoreUnavailable("the database did not take the transaction") from error
        except self._backend.driver_error as error:  # from COMMIT itself: a full disk, say
            raise StoreUnavailable("the database could not write the transaction") from error
        except DatabaseError as error:
            # "file is not a database" and a corrupt file arrive as the plain class; a violated constraint has its
            # own and is a bug.
            if type(error) is DatabaseError:
                raise StoreUnavailable("the database cannot be used") from error
            raise self._backend.without_values(error) from None
