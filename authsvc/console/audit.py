"""The events of all enrolments, with filters."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from starlette.responses import Response

from ..services import inspection
from ..store.event_search import EventFilter
from ..store.events import EventRow
from .rendering import page
from .visits import Visit, address, id_or_none
from .words import EVENTS

PAGE_ROWS: Final = 50
_NAME: Final = re.compile(r"[a-z_]{1,60}\Z")


def show(visit: Visit) -> Response:
    """Newest first, a page at a time."""
    asked = {name: visit.query.get(name, "") for name in ("name", "enrolment", "since", "until")}
    wanted, problem = _filter(asked)
    before = visit.query.get("before", "")
    rows: list[EventRow] = []
    more = None
    if before and not (before.isascii() and before.isdigit() and len(before) <= 19 and int(before) < 2**63):
        problem = "The page's address is not a page of this list."
    elif wanted is not None:
        rows, more = inspection.find_events(visit.ctx, wanted, limit=PAGE_ROWS, before=int(before) if before else None)
    return page(
        visit,
        "audit.html",
        status=200 if problem is None else 400,
        rows=rows,
        asked=asked,
        problem=problem,
        names=sorted(EVENTS),
        is_first=not before,
        next=None if more is None else address("/audit", **asked, before=more),
    )


def _filter(asked: dict[str, str]) -> tuple[EventFilter | None, str | None]:
    """(the filter, None), or (None, what is wrong)."""
    name, enrolment = asked["name"], asked["enrolment"].lower()
    if name and not _NAME.match(name):
        return None, "An event's name has small letters and underscores only."
    if enrolment and id_or_none(enrolment) is None:
        return None, "An enrolment's id has 32 hexadecimal digits."
    try:
        since, until = _time(asked["since"]), _time(asked["until"])
    except ValueError:
        return None, "A time is written as 2026-01-31T23:59, in UTC."
    return EventFilter(id_or_none(enrolment), name or None, since, until), None


def _time(text: str) -> float | None:
    """UTC as a browser's field gives it. ValueError."""
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None and moment.utcoffset():
        raise ValueError("is not UTC")
    return moment.replace(tzinfo=UTC).timestamp()
