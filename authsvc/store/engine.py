"""Transactions. `Store.read()` is a consistent snapshot; `Store.write()` and `write_enrolment()` are on disk when they
end.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DatabaseError, InterfaceError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from .backend import Backend
from .postgresql import postgresql_backend
from .sqlite import sqlite_backend
from .turns import LocalTurns, TurnNotFree, turn_key

_T = TypeVar("_T")
_MOST_WAITING = 64
_BACKENDS = {"sqlite": sqlite_backend, "postgresql": postgresql_backend}


class StoreUnavailable(Exception):
    """The database could not be reached, was locked for too long, or could not write. Unless the connection broke
    during the commit itself, nothing of the transaction remains.

    Look at the database's server or file, disk space, permissions, and other programs that hold it; then try again.
    """


class Store:
    """The database. Shared by all threads of the process; other processes may use it at the same time."""

    def __init__(self, url: URL | str, *, most_waiting: int = _MOST_WAITING) -> None:
        """url: `sqlite:///path` or `postgresql://…`. most_waiting: threads that may wait for turns at the same time.
        ValueError for another database.
        """
        parsed = make_url(url)
        backend = _BACKENDS.get(parsed.get_backend_name())
        if backend is None:
            raise ValueError("the database URL must begin with sqlite:// or postgresql://")
        self._backend: Backend = backend(parsed)
        self.engine = self._backend.engine
        self._of_thread = threading.local()
        self._kept: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._turns = LocalTurns(most_waiting)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: every query inside sees the same committed state. Raises StoreUnavailable."""
        with self._typed_errors(), self._transaction(self._backend.begin_read) as connection:
            yield connection

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """Queries that need not agree: each sees what was committed when it began. For one query, or where all is read
        again before anything is decided; saves beginning and ending a transaction. Raises StoreUnavailable.
        """
        with self._typed_errors():
            connection, _ = self._started(self._backend.look)
            driver = connection.connection.driver_connection
            try:
                yield connection
                connection.commit()  # for SQLAlchemy, which knows of transactions only
            except BaseException:
                self._put_away(connection, driver, broken=self._backend.is_lost(driver))
                raise
            self._of_thread.connection = connection

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
    def enrolment_turn(self, enrolment_id: bytes) -> Iterator[None]:
        """Inside, nobody else has the turn of this enrolment, in whatever thread, process or host; transactions are
        begun and ended inside. Raises TurnNotFree, StoreUnavailable. Not re-entrant, and not inside a transaction.

        If the connection breaks inside, a second holder is possible: what must not happen twice is for a transaction
        to prevent.
        """
        assert not self._of_thread.__dict__.get("turn"), "a thread that has a turn asks for another"
        key = turn_key(enrolment_id)
        with self._turns.turn(key):
            driver, is_ours = self._asked_for_turn(key, wait=False)
            if not is_ours:
                with self._turns.waiting():
                    driver, is_ours = self._asked_for_turn(key, wait=True)
                if not is_ours:
                    raise TurnNotFree
            self._of_thread.turn = driver
            try:
                yield
            finally:
                self._of_thread.turn = None
                self._end_turn(driver, key)

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
                self._backend.commit(driver)
            except BaseException:
                try:
                    connection.rollback()
                finally:
                    driver.rollback()
                raise
        except BaseException:
            # If it is still in a transaction, the rollback failed too.
            broken = self._backend.is_lost(driver) or self._backend.in_transaction(driver)
            self._put_away(connection, driver, broken=broken)
            raise
        self._of_thread.connection = connection

    def _asked_for_turn(self, key: int, *, wait: bool) -> tuple[Any, bool]:
        """The driver's connection of this thread, and whether the turn is now ours, on it."""
        with self._typed_errors():
            connection, is_ours = self._started(lambda driver: self._backend.take_turn(driver, key, wait))
        self._of_thread.connection = connection
        return connection.connection.driver_connection, is_ours

    def _end_turn(self, driver: Any, key: int) -> None:
        """On the connection that it was begun on; with one that is gone it has ended already."""
        if self._backend.is_lost(driver):
            return
        try:
            self._backend.give_turn(driver, key)
        except self._backend.driver_error:
            # Whatever happened, the turn must not outlive this block: it ends with the connection.
            kept: Connection | None = self._of_thread.__dict__.pop("connection", None)
            if kept is not None:
                self._put_away(kept, driver, broken=True)

    def _put_away(self, connection: Connection, driver: Any, *, broken: bool) -> None:
        """After a failure: back to the pool, or, if it is broken, never used again."""
        if broken:
            connection.invalidate()
        elif self._of_thread.__dict__.get("turn") is driver:
            # In the pool, whoever took it next would have this thread's turn without knowing.
            self._of_thread.connection = connection
            return
        connection.close()

    def _begun(self, begin: str) -> Connection:
        """This thread's connection, inside a transaction."""
        # Spoken to the driver itself: SQLAlchemy leaves BEGIN to the driver, whose own would come late and without the
        # lock, and a listener for its "begin" event would make every statement of the engine dearer.
        return self._started(lambda driver: self._backend.begin(driver, begin))[0]

    def _started(self, start: Callable[[Any], _T]) -> tuple[Connection, _T]:
        """This thread's connection and the result of its first words. A worker thread does one small transaction after
        another, and taking a connection from the pool for each costs more than its statements do.
        """
        kept: Connection | None = self._of_thread.__dict__.pop("connection", None)
        connection = kept if kept is not None else self._connected()
        for last_try in (False, True):
            driver = connection.connection.driver_connection
            assert driver is not None
            try:
                return connection, start(driver)
            except self._backend.driver_error as error:
                lost = self._backend.is_lost(driver)
                try:
                    if not lost:
                        driver.rollback()
                except self._backend.driver_error:
                    lost = True
                self._put_away(connection, driver, broken=lost)
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
