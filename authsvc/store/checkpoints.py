"""Rows of `audit_checkpoints`, and the stored hashes that they cover."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, type_coerce
from sqlalchemy.types import NullType

from .tables import audit_checkpoints, events

_PAGE = 2000


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint as stored. Field order is column order. document: signed, as it was exported or may be."""

    number: int
    at: float
    last_event_id: int
    document: bytes = field(repr=False)


def insert_checkpoint(conn: Connection, row: CheckpointRow) -> None:
    """Add a checkpoint. sqlalchemy.exc.IntegrityError if the number exists."""
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def latest_checkpoint(conn: Connection) -> CheckpointRow | None:
    """The checkpoint with the highest number, or None."""
    row = conn.execute(_LATEST).first()
    return None if row is None else CheckpointRow(*row)


def checkpoints(conn: Connection) -> Iterator[CheckpointRow]:
    """All checkpoints by number, a page at a time."""
    after = -1
    while page := conn.execute(_AFTER, {"after": after, "limit": _PAGE}).all():
        yield from (CheckpointRow(*row) for row in page)
        after = page[-1][0]


def newest_event_id(conn: Connection) -> int:
    """The highest event id, 0 if there is no event.

    Ids are drawn before the commit. Only in `Store.write()`, beside which nobody writes, does this mean that every
    event that appears from now on has a higher one.
    """
    return int(conn.execute(_NEWEST).scalar_one())


def event_hashes(conn: Connection, first_id: int, last_id: int, *, limit: int) -> list[tuple[int, bytes]]:
    """(id, hash) of the events of a range, both ends included, by id; the first `limit` of them."""
    rows = conn.execute(_HASHES, {"first_id": first_id, "last_id": last_id, "limit": limit})
    return [(row[0], row[1]) for row in rows]


_COLUMNS = tuple(item.name for item in fields(CheckpointRow))
# As the database holds them: what somebody put there may be of any type.
_RAW: list[Any] = [type_coerce(audit_checkpoints.c[name], NullType()).label(name) for name in _COLUMNS]
_ALL = select(*_RAW)
_INSERT = insert(audit_checkpoints)
_LATEST = _ALL.order_by(audit_checkpoints.c.number.desc()).limit(1)
_AFTER = (
    _ALL.where(audit_checkpoints.c.number > bindparam("after"))
    .order_by(audit_checkpoints.c.number)
    .limit(bindparam("limit"))
)
_NEWEST = select(func.coalesce(func.max(events.c.id), 0))
_HASHES = (
    select(events.c.id, type_coerce(events.c.hash, NullType()).label("hash"))
    .where(events.c.id.between(bindparam("first_id"), bindparam("last_id")))
    .order_by(events.c.id)
    .limit(bindparam("limit"))
)
