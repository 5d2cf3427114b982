"""Rows of `events`: what happened to an enrolment, in stable words, for operators and audits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select

from .tables import events

EventDetail = Mapping[str, str | int | float | bool | None]
"""What an event tells beside its name. Neither secrets nor what tells who a person is: events are kept for good."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event; detail is a JSON object."""

    id: int
    at: float
    enrolment_id: bytes | None
    name: str
    detail: str


def append_event(
    conn: Connection,
    *,
    at: float,
    name: str,
    enrolment_id: bytes | None = None,
    detail: EventDetail | None = None,
) -> None:
    """Append an event in the transaction of what it tells, so that neither exists without the other."""
    text = json.dumps(dict(detail), sort_keys=True, separators=(",", ":")) if detail else "{}"
    conn.execute(_INSERT, {"at": at, "enrolment_id": enrolment_id, "name": name, "detail": text})


def list_events(conn: Connection, enrolment_id: bytes, *, latest: int = 100) -> list[EventRow]:
    """The latest events of an enrolment, newest first."""
    return [EventRow(*row) for row in conn.execute(_LIST, {"enrolment_id": enrolment_id, "latest": latest})]


_INSERT = insert(events)
_LIST = (
    select(events.c.id, events.c.at, events.c.enrolment_id, events.c.name, events.c.detail)
    .where(events.c.enrolment_id == bindparam("enrolment_id"))
    .order_by(events.c.id.desc())
    .limit(bindparam("latest"))
)
