"""An enrolment's own history: its device reads every event that was ever written under its name."""

from __future__ import annotations

from mpc.login.history import PAGE_EVENTS, HistoryEvent, HistoryPage, HistoryRequest

from ..errors import Refused
from ..store.events import events_after
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment

MAX_BODY_BYTES = 256


def read_history(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """One page. Whoever holds the request key may read, whatever the enrolment's state; no attempt is counted.

    Raises Refused: "unauthenticated", "too_large"; DecodeError.
    """
    if len(request.body) > MAX_BODY_BYTES:
        raise Refused("too_large")
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
        message = HistoryRequest.decode(request.body)
        require_same_enrolment(enrolment, message.enrolment_id)
        rows = events_after(conn, enrolment.id, message.after, limit=PAGE_EVENTS)
    events = tuple(HistoryEvent(row.at, row.name, row.detail) for row in rows)
    return HistoryPage(events, enrolment.audit_seq, enrolment.audit_hash).encode()
