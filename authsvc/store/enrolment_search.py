"""Finding enrolments for operators: by label, status, profile, relying party and times, a page at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import Connection, exists, func, select

from .enrolments import EnrolmentRow, EnrolmentStatus
from .pages import Page, Position, page_of
from .tables import credentials, enrolments


@dataclass(frozen=True, slots=True)
class EnrolmentFilter:
    """All that is given must hold. Times are Unix seconds; `…_from` is included, `…_to` is not."""

    label: str | None = None
    """Part of the label, in any case (of ASCII letters on SQLite)."""
    status: EnrolmentStatus | None = None
    profile: str | None = None
    rp_id: str | None = None
    """With a credential there that is not revoked."""
    created_from: float | None = None
    created_to: float | None = None
    last_attempt_from: float | None = None
    last_attempt_to: float | None = None


def search_enrolments(
    conn: Connection, wanted: EnrolmentFilter, *, limit: int, after: Position | None = None
) -> Page[EnrolmentRow]:
    """At most `limit` enrolments, oldest first. What is left of erased ones is never among them."""
    table = enrolments.c
    query = select(*_ALL).where(table.status != "erased")
    if wanted.label:
        query = query.where(func.lower(table.label).contains(wanted.label.lower(), autoescape=True))
    for value, column in ((wanted.status, table.status), (wanted.profile, table.profile_name)):
        if value is not None:
            query = query.where(column == value)
    if wanted.rp_id is not None:
        query = query.where(
            exists().where(
                credentials.c.enrolment_id == table.id,
                credentials.c.rp_id == wanted.rp_id,
                credentials.c.status != "revoked",
            )
        )
    for since, until, column in (
        (wanted.created_from, wanted.created_to, table.created_at),
        (wanted.last_attempt_from, wanted.last_attempt_to, table.last_attempt_at),
    ):
        if since is not None:
            query = query.where(column >= since)
        if until is not None:
            query = query.where(column < until)
    if after is not None:
        query = query.where(after.after(table.created_at, table.id))
    found = conn.execute(query.order_by(table.created_at, table.id).limit(limit + 1))
    rows = [EnrolmentRow(*row) for row in found]
    return page_of(rows, limit, lambda row: Position(row.created_at, row.id))


_ALL = [enrolments.c[item.name] for item in fields(EnrolmentRow)]
