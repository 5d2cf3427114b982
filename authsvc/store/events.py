"""Rows of `events`: what happened, in stable words, chained by hashes. They are only ever appended.

There is one chain for each enrolment, whose head stands in the enrolment's row, and one for events of no enrolment,
whose head stands in `server_state`. A transaction that appends holds that row, or excludes all others, so a chain never
forks; the hashes are told in `mpc.login.history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypedDict

from sqlalchemy import Connection, bindparam, insert, select, update

from mpc.login.history import NO_HASH, event_hash, write_detail

from .enrolments import EnrolmentRow
from .event_names import EVENTS, EventName
from .prepared import Prepared
from .server_state import load_state, put_state
from .tables import enrolments, events

_SERVER_HEAD = "audit_chain"

EventDetail = Mapping[str, str | int | float | bool | None]
"""What an event tells beside its name. Neither secrets nor what tells who a person is: events are kept for good."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as stored. detail is a JSON object; seq counts in its chain, from 1."""

    id: int
    at: float
    enrolment_id: bytes | None
    seq: int
    name: str
    detail: str
    hash: bytes


class ChainHead(TypedDict):
    """Where an enrolment's chain ends, as columns of its row."""

    audit_seq: int
    audit_hash: bytes


class EnrolmentChain:
    """Appends to the chain of an enrolment whose row the transaction holds and is about to update anyway.

    That update must take `head` along. Left out, the next append would collide with this one, and fail.
    """

    __slots__ = ("_enrolment_id", "head")

    def __init__(self, row: EnrolmentRow) -> None:
        self._enrolment_id = row.id
        self.head = ChainHead(audit_seq=row.audit_seq, audit_hash=row.audit_hash)

    def append(self, conn: Connection, *, at: float, name: EventName, detail: EventDetail | None = None) -> None:
        """Append an event in the transaction of what it tells, so that neither exists without the other."""
        self.head = _insert(conn, self.head, at, self._enrolment_id, name, detail)


def append_event(
    conn: Connection,
    *,
    at: float,
    name: EventName,
    enrolment_id: bytes | None = None,
    detail: EventDetail | None = None,
) -> None:
    """The same for any other transaction: the head is read and written here.

    at: Unix seconds. Within `Store.write()`, or `write_enrolment()` for the enrolment that it locks. KeyError for an
    enrolment that is not there; ValueError for a name that is not in `EVENTS`.
    """
    if enrolment_id is None:
        head = _insert(conn, server_head(conn), at, None, name, detail)
        put_state(conn, _SERVER_HEAD, head["audit_seq"].to_bytes(8, "big") + head["audit_hash"])
        return
    row = _LOAD_HEAD.first(conn, {"id": enrolment_id})
    if row is None:
        raise KeyError("no such enrolment")
    head = _insert(conn, ChainHead(audit_seq=row[0], audit_hash=row[1]), at, enrolment_id, name, detail)
    _STORE_HEAD.run(conn, {"row_id": enrolment_id, **head})


def server_head(conn: Connection) -> ChainHead:
    """Where the chain of events of no enrolment ends."""
    value = load_state(conn, _SERVER_HEAD) or bytes(8) + NO_HASH
    return ChainHead(audit_seq=int.from_bytes(value[:8], "big"), audit_hash=value[8:])


def list_events(conn: Connection, enrolment_id: bytes, *, latest: int = 100) -> list[EventRow]:
    """The latest events of an enrolment, newest first."""
    return [EventRow(*row) for row in conn.execute(_LATEST, {"enrolment_id": enrolment_id, "latest": latest})]


def events_after(conn: Connection, enrolment_id: bytes, seq: int, *, limit: int) -> list[EventRow]:
    """The events of an enrolment that follow number `seq`, oldest first."""
    return [EventRow(*row) for row in _AFTER.all(conn, {"enrolment_id": enrolment_id, "seq": seq, "limit": limit})]


def _insert(
    conn: Connection,
    head: ChainHead,
    at: float,
    enrolment_id: bytes | None,
    name: EventName,
    detail: EventDetail | None,
) -> ChainHead:
    if name not in EVENTS:
        raise ValueError("an event's name must be one of those in event_names.py")
    seq, at, text = head["audit_seq"] + 1, float(at), write_detail(detail or {})
    digest = event_hash(head["audit_hash"], seq, at, enrolment_id or b"", name, text)
    values = {"at": at, "enrolment_id": enrolment_id, "seq": seq, "name": name, "detail": text, "hash": digest}
    _INSERT.run(conn, values)
    return ChainHead(audit_seq=seq, audit_hash=digest)


_COLUMNS = tuple(item.name for item in fields(EventRow))
_ALL = [events.c[name] for name in _COLUMNS]
_INSERT = Prepared(insert(events).inline().values({name: bindparam(name) for name in _COLUMNS if name != "id"}))
_LOAD_HEAD = Prepared(
    select(enrolments.c.audit_seq, enrolments.c.audit_hash).where(enrolments.c.id == bindparam("id")).with_for_update()
)
_STORE_HEAD = Prepared(
    update(enrolments)
    .where(enrolments.c.id == bindparam("row_id"))
    .values(audit_seq=bindparam("audit_seq"), audit_hash=bindparam("audit_hash"))
)
_MINE = select(*_ALL).where(events.c.enrolment_id == bindparam("enrolment_id"))
_LATEST = _MINE.order_by(events.c.seq.desc()).limit(bindparam("latest"))
_AFTER = Prepared(_MINE.where(events.c.seq > bindparam("seq")).order_by(events.c.seq).limit(bindparam("limit")))
