"""Finding events for auditors, newest first, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import Connection, select

from .events import EventRow
from .tables import events


@dataclass(frozen=True, slots=True)
class EventFilter:
    """All that is given must hold. Times are Unix seconds; `since` is included, `until` is not."""

    enrolment_id: bytes | None = None
    name: str | None = None
    since: float | None = None
    until: float | None = None


def search_events(
    conn: Connection, wanted: EventFilter, *, limit: int | None, before: int | None = None
) -> list[EventRow]:
    """The latest events with ids below `before`, newest first; at most `limit` of them unless None."""
    table = events.c
    query = select(*(table[item.name] for item in fields(EventRow)))
    for value, column in ((wanted.enrolment_id, table.enrolment_id), (wanted.name, table.name)):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(table.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.at < wanted.until)
    if before is not None:
        query = query.where(table.id < before)
    return [EventRow(*row) for row in conn.execute(query.order_by(table.id.desc()).limit(limit))]
