"""PostgreSQL: any number of workers on any number of hosts over one database.

Write transactions hold one advisory lock: shared where they are about one enrolment, whose row they lock first, and
exclusive otherwise. So logins of different enrolments run side by side, those of one enrolment one after the other, and
everything else alone, as on SQLite. READ COMMITTED is enough then: whatever a transaction reads and decides by, nobody
can change until it ends.

A turn (`store.turns`) is an advisory lock of the session. It is taken before any transaction and while its thread holds
no other lock, and whoever is inside a transaction never asks for one: so no circle of waiting can close.
"""

from __future__ import annotations

import selectors
from contextlib import nullcontext
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from .backend import Backend
from .postgresql_statement import PostgresqlStatement, speak

_POOL_SIZE = 8
_LOCK_TIMEOUT_S = 10
_IDLE_TIMEOUT_S = 5  # below the lock timeout: whoever waits behind a worker that hangs still gets his turn
_VANISHED_TIMEOUT_MS = 25_000
_TURN_IDLE_TIMEOUT_S = 10  # a login computes for a fraction of a second between two statements
_WRITERS = 0x7461_6E64_656D  # "tandem": the advisory lock of this program in its database


def postgresql_backend(url: URL) -> Backend:
    """url: postgresql://…, with the driver's own parameters such as sslmode."""
    return Backend(
        engine=_engine(url),
        begin_read="BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        # The level is named, since a database or role may have another default; under REPEATABLE READ the snapshot
        # would be older than the lock.
        begin_write=f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({_WRITERS})",
        begin_enrolment=(
            f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock_shared({_WRITERS})"
        ),
        # No advisory lock: one statement on one row of its own. And no wait for the disk: what a crash of the database
        # forgets is the last fraction of a second of a rate, and with it goes nobody's attempt or share.
        begin_counters="BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit TO off",
        begin=speak,
        commit=_commit,
        look=_look,
        driver_error=psycopg.Error,
        writers_turn=nullcontext,
        is_aborted=lambda driver: driver.info.transaction_status == TransactionStatus.INERROR,
        in_transaction=lambda driver: driver.info.transaction_status != TransactionStatus.IDLE,
        is_lost=lambda driver: bool(driver.closed),
        take_turn=_take_turn,
        give_turn=_give_turn,
        without_values=_without_values,
    )


def _commit(driver: Any) -> None:
    if driver.pgconn.transaction_status != TransactionStatus.IDLE:
        speak(driver, "COMMIT")


def _look(driver: Any) -> None:
    # Nothing comes unasked over a connection that is well; the server's farewell, or the end of the stream, does.
    with selectors.DefaultSelector() as selector:
        selector.register(driver.pgconn.socket, selectors.EVENT_READ)
        if selector.select(0):
            speak(driver, "SELECT")


def _take_turn(driver: Any, key: int, wait: bool) -> bool:
    return (_WAIT_FOR_TURN if wait else _TRY_TURN).execute(driver, _two_keys(key))[0] != [(None,)]


def _give_turn(driver: Any, key: int) -> None:
    _GIVE_TURN.execute(driver, _two_keys(key))


# A session has locks for as long as its connection stands, and a process that hangs, or a host that vanished, does not
# close its own: so a session that has a turn is ended when it has been silent for long.
_PATIENCE = f"set_config('idle_session_timeout', '{_TURN_IDLE_TIMEOUT_S}s', false)"
# Locks with two numbers never meet those with one, such as that of the writers.
_LOCK = "($1::int4, $2::int4)"
_KEYS = ("high", "low")
_WAIT_FOR_TURN = PostgresqlStatement(f"SELECT {_PATIENCE}, pg_advisory_lock{_LOCK}::text", _KEYS)
_TRY_TURN = PostgresqlStatement(f"SELECT CASE WHEN pg_try_advisory_lock{_LOCK} THEN {_PATIENCE} END", _KEYS)
_NO_PATIENCE = "set_config('idle_session_timeout', '0', false)"
_GIVE_TURN = PostgresqlStatement(f"SELECT pg_advisory_unlock{_LOCK}::text, {_NO_PATIENCE}", _KEYS)


def _two_keys(key: int) -> dict[str, int]:
    return {"high": key >> 32, "low": (key & 0xFFFF_FFFF) - 2**31}


def _without_values(error: DBAPIError) -> DBAPIError:
    """The same error by its code and constraint alone: the server's own text quotes the failing row."""
    diagnosis = getattr(error.orig, "diag", None)
    told = " ".join(filter(None, (getattr(diagnosis, "sqlstate", None), getattr(diagnosis, "constraint_name", None))))
    return type(error)(error.statement, None, psycopg.Error(told or "unknown"), hide_parameters=True)


def _engine(url: URL) -> Engine:
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=_POOL_SIZE,
        max_overflow=-1,
        pool_reset_on_return=None,
        # A host that vanished must not be waited for as long as TCP would.
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": _VANISHED_TIMEOUT_MS,  # keepalives rest while something sent is not acknowledged
        },
        # Parameters are key material; they must not reach an exception text.
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # The driver would otherwise begin transactions by itself, without the lock.
        connection.autocommit = True
        # Nor may it prepare statements: with its own it would deallocate those of the login path (`prepared.py`).
        connection.prepare_threshold = None
        for setting in (
            "synchronous_commit = on",  # a verdict that was answered is on disk
            f"lock_timeout = '{_LOCK_TIMEOUT_S}s'",
            # A worker that hangs inside a transaction must not keep its locks for ever.
            f"idle_in_transaction_session_timeout = '{_IDLE_TIMEOUT_S}s'",
            "timezone = 'UTC'",
        ):
            connection.execute(f"SET {setting}")

    return engine
