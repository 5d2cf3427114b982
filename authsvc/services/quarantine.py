"""Taking an enrolment out of service when something proves, or suggests, that a device is not the only one."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection

from ..store.enrolments import EnrolmentRow, update_enrolment
from ..store.events import append_event
from .context import ServiceContext

QuarantineReason = Literal["clone_suspected", "clone_proved", "ot_proof_failed", "share_tag_failed"]


def quarantine(ctx: ServiceContext, conn: Connection, enrolment: EnrolmentRow, reason: QuarantineReason) -> None:
    """Stop all logins until an operator acts, in the transaction of the evidence.

    Δ and its keys go in every case: after a failed proof one more guess at them would be worth something, and
    lifting makes base OTs anew anyway. Pending logins stay, so that the honest device can still confirm after it.
    """
    now = ctx.clock()
    update_enrolment(
        conn,
        enrolment.id,
        status="quarantined",
        status_reason=reason,
        sealed_base_ot=None,
        updated_at=now,
    )
    append_event(conn, at=now, name="quarantined", enrolment_id=enrolment.id, detail={"reason": reason})
