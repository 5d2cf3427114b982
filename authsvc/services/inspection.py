"""Looking around, for operators and auditors: enrolments, open codes and events, a page at a time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..errors import Refused
from ..store.codes import CodePurpose, CodeRow, list_open_codes, load_code, withdraw_code
from ..store.enrolment_search import EnrolmentFilter, search_enrolments
from ..store.enrolments import EnrolmentRow
from ..store.event_search import EventFilter, search_events
from ..store.events import EventRow, append_event
from ..store.pages import MAX_PAGE, Page, Position
from ..tokens import Scope
from .context import COMMAND_LINE, ServiceContext

DEFAULT_PAGE = 100
EVERY_PURPOSE: tuple[CodePurpose, ...] = ("enrol", "recover", "rotate", "rotate_unmatched")


def find_enrolments(
    ctx: ServiceContext, wanted: EnrolmentFilter, *, limit: int = DEFAULT_PAGE, cursor: str | None = None
) -> Page[EnrolmentRow]:
    """Oldest first. limit: 1 to 500. cursor: from the page before. Refused("malformed")."""
    _require_limit(limit)
    with ctx.store.read() as conn:
        return search_enrolments(conn, wanted, limit=limit, after=_position(cursor))


def find_events(
    ctx: ServiceContext, wanted: EventFilter, *, limit: int = DEFAULT_PAGE, before: int | None = None
) -> tuple[list[EventRow], int | None]:
    """(events, newest first; the id to give as `before` for the next page, or None). Refused("malformed")."""
    _require_limit(limit)
    with ctx.store.read() as conn:
        rows = search_events(conn, wanted, limit=limit + 1, before=before)
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def code_purposes(scopes: Collection[Scope]) -> tuple[CodePurpose, ...]:
    """The codes that a token may see and withdraw: a provisioner those for enrolling, the others all."""
    return EVERY_PURPOSE if {Scope.OPERATOR, Scope.AUDITOR} & set(scopes) else ("enrol",)


def open_codes(
    ctx: ServiceContext,
    *,
    purposes: Collection[CodePurpose] = EVERY_PURPOSE,
    limit: int = DEFAULT_PAGE,
    cursor: str | None = None,
) -> Page[CodeRow]:
    """The codes that can still be used, oldest first; limit and cursor as above. Refused("malformed")."""
    _require_limit(limit)
    with ctx.store.read() as conn:
        return list_open_codes(conn, purposes, ctx.clock(), limit=limit, after=_position(cursor))


def withdraw(
    ctx: ServiceContext, code_id: bytes, *, purposes: Collection[CodePurpose] = EVERY_PURPOSE, by: str = COMMAND_LINE
) -> None:
    """Use up a code that was given out and is not wanted any more. Does nothing to one that is used, or was withdrawn.

    code_id: its 32 bytes, from `open_codes`. Refused("not_found"), also for one of another purpose.
    """
    now = ctx.clock()
    with ctx.store.write() as conn:
        row = load_code(conn, code_id)
        if row is None or row.purpose not in purposes:
            raise Refused("not_found")
        if withdraw_code(conn, code_id, now):
            detail: dict[str, Any] = {"code_id": code_id.hex(), "purpose": row.purpose, "by": by}
            append_event(conn, at=now, enrolment_id=row.enrolment_id, name="code_withdrawn", detail=detail)


def _require_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise Refused("malformed", field="limit")


def _position(cursor: str | None) -> Position | None:
    try:
        return None if cursor is None else Position.from_cursor(cursor)
    except ValueError:
        raise Refused("malformed", field="cursor") from None
