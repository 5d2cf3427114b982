"""Finding enrolments, and the page of one."""

from __future__ import annotations

from typing import Final, get_args

from starlette.responses import RedirectResponse, Response

from ..errors import Refused
from ..services import administration, inspection
from ..services.activity import latest_attempts
from ..store.enrolment_search import EnrolmentFilter
from ..store.enrolments import EnrolmentStatus
from .rendering import page
from .visits import Visit, address, id_or_none

STATUSES: Final[tuple[EnrolmentStatus, ...]] = tuple(each for each in get_args(EnrolmentStatus) if each != "erased")
PAGE_ROWS: Final = 50
DONE: Final = {
    "revoked": "The enrolment is revoked. Its shares are erased.",
    "credential-revoked": "The passkey is revoked. Its share is erased.",
    "unchanged": "It was revoked before. Nothing was changed.",
}


def search(visit: Visit) -> Response:
    """Enrolments by label or id, status, profile and relying party, a page at a time."""
    text, status = visit.query.get("q", ""), visit.query.get("status", "")
    exact = id_or_none(text.lower())
    if exact is not None:
        return RedirectResponse(address(f"/enrolments/{exact.hex()}"), 303)
    if status and status not in STATUSES:
        raise Refused("malformed", field="status")
    wanted = EnrolmentFilter(
        label=text or None,
        status=next((each for each in STATUSES if each == status), None),
        profile=visit.query.get("profile") or None,
        rp_id=visit.query.get("rp_id") or None,
    )
    found = inspection.find_enrolments(visit.ctx, wanted, limit=PAGE_ROWS, cursor=visit.query.get("cursor") or None)
    limits = visit.ctx.policy.limits
    asked = {name: visit.query.get(name, "") for name in ("q", "status", "profile", "rp_id")}
    return page(
        visit,
        "enrolments.html",
        rows=found.rows,
        asked=asked,
        is_first="cursor" not in visit.query,
        next=None if found.next is None else address("/enrolments", **asked, cursor=found.next.cursor()),
        statuses=STATUSES,
        profiles=sorted(visit.ctx.policy.profiles),
        rp_ids=sorted(visit.ctx.policy.allowed_rp_ids),
        waiting_at=limits.consecutive_before_delay,
        disabled_at=limits.consecutive_before_disabled,
    )


def show(visit: Visit) -> Response:
    """One enrolment with its passkeys, attempts, history, and what can be done about it."""
    enrolment_id = visit.id_param("enrolment_id")
    detail = administration.enrolment_detail(visit.ctx, enrolment_id)
    row, limits = detail.enrolment, visit.ctx.policy.limits
    is_disabled = row.consecutive_failures >= limits.consecutive_before_disabled
    return page(
        visit,
        "enrolment.html",
        row=row,
        credentials=detail.credentials,
        events=detail.events,
        attempts=latest_attempts(visit.ctx, enrolment_id),
        done=DONE.get(visit.query.get("done", "")),
        needs_lift=row.status in ("quarantined", "recovering") or (row.status == "active" and is_disabled),
        can_rotate=row.status == "active" and not is_disabled,
        limits=limits,
        waiting_at=limits.consecutive_before_delay,
        disabled_at=limits.consecutive_before_disabled,
    )
