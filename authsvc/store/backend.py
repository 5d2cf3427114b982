"""What differs between databases, as one value that `Store` works with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError


@dataclass(frozen=True, slots=True)
class Backend:
    """One database. The `begin_…` texts are spoken to the driver, whose own transactions are switched off.

    begin_read: a snapshot. begin_write: excludes every other write transaction, in all processes and on all hosts.
    begin_enrolment: lets write transactions about other enrolments go on beside it.
    begin_counters: waits for no other transaction where the database can, and may be forgotten in a power failure.
    """

    engine: Engine
    begin_read: str
    begin_write: str
    begin_enrolment: str
    begin_counters: str
    begin: Callable[[Any, str], None]
    """Speak such a text on a driver's connection."""
    commit: Callable[[Any], None]
    """End the transaction of a driver's connection, if it is in one, durably as it was begun."""
    look: Callable[[Any], None]
    """Raise if a driver's connection has lost its server, as far as this can be told without asking it."""
    driver_error: type[Exception]
    """What the driver raises when the database cannot serve, at BEGIN and COMMIT."""
    writers_turn: Callable[[], AbstractContextManager[Any]]
    """Held around a write transaction: how the threads of this process queue."""
    in_transaction: Callable[[Any], bool]
    """Whether a driver's connection is inside a transaction that a rollback did not end."""
    is_aborted: Callable[[Any], bool]
    """Whether a statement failed in the transaction of a driver's connection, so that COMMIT would roll back."""
    is_lost: Callable[[Any], bool]
    """Whether a driver's connection has lost its server, so that a new one may work."""
    take_turn: Callable[[Any, int, bool], bool]
    """Begin the turn with this number (`store.turns`), on a driver's connection that is in no transaction: whether it
    is ours. With True, wait for it. Whatever happens to this process, the turn ends with it.
    """
    give_turn: Callable[[Any, int], None]
    """End it, on the same connection."""
    without_values: Callable[[DBAPIError], DBAPIError]
    """An error without the values of the row it is about: they may be key material."""
