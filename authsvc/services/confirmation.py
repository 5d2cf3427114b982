"""Confirmation: the device proves that it opened an answer, and both sides move to fresh shares (rows C1–C4)."""

from __future__ import annotations

import hmac

from sqlalchemy import Connection

from mpc.login.messages import Acknowledgement, Confirmation, Message3
from mpc.login.template import refreshed as refreshed_template
from mpc.threshold_rsa.shares import refresh_offset
from mpc.threshold_rsa.shares import refreshed as refreshed_key

from ..errors import Refused
from ..observation import login_came_to
from ..store.credentials import load_credential, set_credential_share
from ..store.enrolments import EnrolmentChanges, EnrolmentRow, EnrolmentStatus, load_enrolment, update_enrolment
from ..store.events import EnrolmentChain
from ..store.logins import (
    LoginRow,
    confirm_login,
    drop_pending_changes,
    forget_dropped,
    pending_logins,
    void_token_hashes,
)
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment
from .login_events import confirmed_event
from .quarantine import quarantine
from .rate_limits import by_confirmer
from .secrets_at_rest import open_key_share, open_refresh, open_template, seal_key_share, seal_template
from .template_changes import changed

MAX_BODY_BYTES = 512


def confirm(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Message 3 on its own. Not counted as an attempt, and never delayed by any; only its own request rate bounds it.

    Raises Refused: "unauthenticated", "throttled", "too_large", and those of `apply_confirmation`; DecodeError.
    """
    if len(request.body) > MAX_BODY_BYTES:
        raise Refused("too_large")
    with ctx.store.look() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request, rate_of=by_confirmer)
        ctx.keyring.prefetch(conn, enrolment.id)
    message = Message3.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    return Acknowledgement(apply_confirmation(ctx, enrolment.id, message.confirmation)).encode()


def apply_confirmation(
    ctx: ServiceContext, enrolment_id: bytes, received: Confirmation, *, status: EnrolmentStatus = "active"
) -> int:
    """One transaction; the epoch that is current after it.

    Raises Refused: "not_active", "quarantined" (C3), "unknown_login" with the epoch (C4; also for a login that showed
    the match for a change of templates which cannot be made any more).
    """
    with ctx.store.write_enrolment() as conn:
        enrolment = load_enrolment(conn, enrolment_id, lock=True)
        if enrolment is None or enrolment.status != status:
            raise Refused("not_active")
        known = enrolment.confirmed_token_hash
        if known is not None and hmac.compare_digest(known, received.token_hash):
            login_came_to("confirmed_again")
            return enrolment.epoch  # C1: said before, the acknowledgement was lost
        refusal = None
        for row in pending_logins(conn, enrolment_id):
            if row.token_hash is not None and hmac.compare_digest(row.token_hash, received.token_hash):
                if row.ot_index == received.ot_index and _advance(ctx, conn, enrolment, row):  # C2
                    login_came_to("confirmed")
                    return enrolment.epoch + 1
                break
        # Told in this epoch, its device takes the login back (row D6). Whoever still has such a token when the epoch is
        # over was confirmed less than another device, like any other void one.
        if forget_dropped(conn, enrolment_id, received.token_hash):
            refusal = Refused("unknown_login", epoch=enrolment.epoch)
        if refusal is None:
            void = [h for h in void_token_hashes(conn, enrolment_id) if hmac.compare_digest(h, received.token_hash)]
            if not void:
                raise Refused("unknown_login", epoch=enrolment.epoch)  # C4
            quarantine(ctx, conn, enrolment, "clone_proved")  # C3: two devices opened answers of one epoch
            login_came_to("clone_proved")
            refusal = Refused("quarantined")
    # Only now that the block is left, so that what it wrote commits.
    raise refusal


def _advance(ctx: ServiceContext, conn: Connection, enrolment: EnrolmentRow, row: LoginRow) -> bool:
    """C2: new epoch, new shares; the old ones are overwritten, the other pending logins become void.

    A login for a change of templates makes the change. False if it cannot be made any more: the login has failed then.
    """
    profile = ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)
    if profile is None:
        raise Refused("not_active")
    key = ctx.keyring.key_of(conn, enrolment.id)
    session_id, rho = open_refresh(key, row, enrolment.epoch)
    epoch, now, chain = enrolment.epoch + 1, ctx.clock(), EnrolmentChain(enrolment)
    template = open_template(key, enrolment, profile)
    change = None
    if row.kind == "change":
        change = changed(ctx, conn, key, enrolment, profile, template)
        if change is None:
            drop_pending_changes(conn, enrolment.id)
            update_enrolment(conn, enrolment.id, change_challenge=None, sealed_change=None, updated_at=now)
            return False
        # Refreshed with the others from here on: what was announced in this epoch fits no share of the next.
        template = change.template
    template = refreshed_template(template, session_id, rho, enrolment.id)
    credential = load_credential(conn, row.credential_id)
    # Revoked meanwhile: its share is gone, and the rest of the confirmation still holds.
    if credential is not None and credential.status != "revoked":
        share = open_key_share(key, credential)
        offset = refresh_offset(share.key, session_id, rho, credential.id)
        sealed = seal_key_share(key, credential.id, refreshed_key(share, offset))
        set_credential_share(conn, credential.id, sealed, "active")
        if credential.status == "provisional":
            chain.append(conn, at=now, name="credential_activated")
    confirm_login(conn, enrolment.id, row.ot_index, now)
    event = confirmed_event(enrolment, credential, row)
    chain.append(conn, at=now, name=event.name, detail=event.detail)
    if change is not None:
        chain.append(conn, at=now, name=change.event, detail=change.detail)
    changes: EnrolmentChanges = {
        "epoch": epoch,
        "sealed_template": seal_template(key, epoch, template),
        "confirmed_index": row.ot_index,
        "confirmed_token_hash": row.token_hash,
        "consecutive_failures": 0,
        "updated_at": now,
        "audit_seq": chain.head["audit_seq"],
        "audit_hash": chain.head["audit_hash"],
    }
    if change is not None:
        changes["templates"] = change.templates
    if enrolment.change_challenge is not None:
        # Of the epoch that ends here, whether or not it was this login that showed the match for it.
        changes["change_challenge"] = changes["sealed_change"] = None
    update_enrolment(conn, enrolment.id, **changes)
    return True
