"""Everything that a verification of the audit log reads, in order and a page at a time: memory stays bounded.

The rows are what somebody may have tampered with, so nothing here relies on a constraint of the database.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, tuple_, type_coerce
from sqlalchemy.types import NullType

from .events import EventRow
from .tables import enrolments, events

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class StoredHead:
    """Where the row of an enrolment says that its chain ends."""

    enrolment_id: bytes
    seq: int
    hash: bytes


def count_events(conn: Connection) -> int:
    """How many events there are."""
    return int(conn.execute(select(func.count()).select_from(events)).scalar_one())


def server_events(conn: Connection) -> Iterator[EventRow]:
    """The events of no enrolment, by number."""
    seq, at_id = -(2**62), 0
    while page := conn.execute(_SERVER, {"seq": seq, "at_id": at_id, "limit": _PAGE}).all():
        yield from (EventRow(*row) for row in page)
        seq, at_id = page[-1].seq, page[-1].id


def enrolment_events(conn: Connection) -> Iterator[EventRow]:
    """The events of all enrolments, by enrolment id and number."""
    after = {"enrolment_id": b"", "seq": -(2**62), "at_id": 0}
    while page := conn.execute(_ENROLMENTS, {**after, "limit": _PAGE}).all():
        yield from (EventRow(*row) for row in page)
        after = {"enrolment_id": page[-1].enrolment_id, "seq": page[-1].seq, "at_id": page[-1].id}


def stored_heads(conn: Connection) -> Iterator[StoredHead]:
    """The heads in all rows of enrolments, by id."""
    after = b""
    while page := conn.execute(_HEADS, {"after": after, "limit": _PAGE}).all():
        yield from (StoredHead(*row) for row in page)
        after = page[-1].id


# As the database holds them: what somebody put there may be of any type.
_RAW: list[Any] = [type_coerce(events.c[item.name], NullType()).label(item.name) for item in fields(EventRow)]
_POSITION = events.c.seq, events.c.id
_SERVER = (
    select(*_RAW)
    .where(events.c.enrolment_id.is_(None), tuple_(*_POSITION) > tuple_(bindparam("seq"), bindparam("at_id")))
    .order_by(*_POSITION)
    .limit(bindparam("limit"))
)
_ENROLMENTS = (
    select(*_RAW)
    .where(
        tuple_(events.c.enrolment_id, *_POSITION)
        > tuple_(bindparam("enrolment_id"), bindparam("seq"), bindparam("at_id"))
    )
    .order_by(events.c.enrolment_id, *_POSITION)
    .limit(bindparam("limit"))
)
_HEADS = (
    select(enrolments.c.id, enrolments.c.audit_seq, type_coerce(enrolments.c.audit_hash, NullType()))
    .where(enrolments.c.id > bindparam("after"))
    .order_by(enrolments.c.id)
    .limit(bindparam("limit"))
)
