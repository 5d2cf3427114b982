"""What an operator does to one enrolment: issue codes, look, lift a quarantine, revoke. Each is one transaction with
its event, which names who did it (`by`: the id of an API token, or the command line).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from ..codes import code_hash, new_code
from ..errors import Refused
from ..store.codes import CodePurpose, insert_code, withdraw_codes
from ..store.credentials import (
    CredentialRow,
    list_credentials,
    load_credential,
    revoke_credentials_of,
)
from ..store.credentials import revoke_credential as erase_credential
from ..store.enrolments import EnrolmentRow, load_enrolment, update_enrolment
from ..store.events import EventDetail, EventRow, append_event, list_events
from ..store.logins import drop_pending_logins
from .context import COMMAND_LINE, ServiceContext
from .secrets_at_rest import open_template

MAX_LABEL_CHARACTERS = 100
MIN_LIFETIME_S = 60
MAX_LIFETIME_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class IssuedCode:
    """A one-time code, shown once: only its hash is kept, and is its id. expires_at: Unix seconds."""

    code: str = field(repr=False)
    expires_at: float
    id: bytes


@dataclass(frozen=True, slots=True)
class EnrolmentDetail:
    """An enrolment with what belongs to it."""

    enrolment: EnrolmentRow
    credentials: list[CredentialRow]
    events: list[EventRow]


def issue_code(ctx: ServiceContext, *, label: str, lifetime_s: int | None = None, by: str = COMMAND_LINE) -> IssuedCode:
    """A code with which one person may enrol one device.

    label: the operator's name for that person, up to 100 printable characters. lifetime_s: from a minute to
    30 days, the policy's lifetime if None. Refused("malformed") outside of these.
    """
    if len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
        raise Refused("malformed", field="label")
    lifetime_s = ctx.policy.limits.enrolment_code_lifetime_s if lifetime_s is None else lifetime_s
    if not MIN_LIFETIME_S <= lifetime_s <= MAX_LIFETIME_S:
        raise Refused("malformed", field="lifetime_s")
    with ctx.store.write() as conn:
        issued = insert_new_code(ctx, conn, "enrol", label=label, enrolment_id=None, lifetime_s=lifetime_s)
        # Not the label: events outlive the person's data.
        detail: EventDetail = {"code_id": issued.id.hex(), "lifetime_s": lifetime_s, "by": by}
        append_event(conn, at=ctx.clock(), name="code_issued", detail=detail)
    return issued


def enrolment_detail(ctx: ServiceContext, enrolment_id: bytes) -> EnrolmentDetail:
    """One enrolment with its credentials and latest events. Refused("not_found")."""
    with ctx.store.read() as conn:
        return EnrolmentDetail(
            existing_enrolment(conn, enrolment_id, lock=False),
            list_credentials(conn, enrolment_id),
            list_events(conn, enrolment_id),
        )


def template_share(ctx: ServiceContext, enrolment_id: bytes, *, by: str = COMMAND_LINE) -> bytes:
    """The server's half of an enrolment's codes, packed; leaves an event.

    Refused("not_found"), Refused("wrong_state").
    """
    with ctx.store.write() as conn:
        row = existing_enrolment(conn, enrolment_id)
        profile = ctx.policy.profile_of(row.profile_name, row.templates)
        if row.sealed_template is None or profile is None:
            raise Refused("wrong_state")
        append_event(conn, at=ctx.clock(), enrolment_id=enrolment_id, name="template_share_shown", detail={"by": by})
    return open_template(ctx.data_key(enrolment_id), row, profile).codes


def lift(ctx: ServiceContext, enrolment_id: bytes, *, also_active: bool = False, by: str = COMMAND_LINE) -> IssuedCode:
    """Let a quarantined enrolment, or one disabled by failures in a row, come back: gives a recovery code
    bound to it.

    The device then brings a new request key and a fresh base OT; the old one may have been probed and is erased here.
    Pending logins stay: the device settles its own when it recovers, so a login that it released is not forgotten.
    Attempt budgets stay as they are. `also_active`: take an enrolment that is in service too, for a device that says
    it was restored or overtaken; nobody can log in until it has recovered. May be repeated while recovering (the code
    before is withdrawn). Refused("not_found"), Refused("wrong_state").
    """
    now = ctx.clock()
    with ctx.store.write() as conn:
        row = existing_enrolment(conn, enrolment_id)
        disabled = row.consecutive_failures >= ctx.policy.limits.consecutive_before_disabled
        if row.status not in ("quarantined", "recovering") and not (
            row.status == "active" and (disabled or also_active)
        ):
            raise Refused("wrong_state")
        withdraw_codes(conn, enrolment_id, now)
        update_enrolment(
            conn,
            enrolment_id,
            status="recovering",
            next_signing_key=None,
            base_ot_id=None,
            sealed_base_ot=None,
            sealed_pending_base_ot=None,
            pending_base_ot_id=None,
            consecutive_failures=0,
            updated_at=now,
        )
        issued = insert_new_code(
            ctx,
            conn,
            "recover",
            label=row.label,
            enrolment_id=enrolment_id,
            lifetime_s=ctx.policy.limits.recovery_code_lifetime_s,
        )
        detail = {"from": row.status, "reason": row.status_reason, "by": by}
        append_event(conn, at=now, enrolment_id=enrolment_id, name="quarantine_lifted", detail=detail)
    return issued


def revoke_enrolment(ctx: ServiceContext, enrolment_id: bytes, *, by: str = COMMAND_LINE) -> None:
    """End an enrolment and all its credentials for good: every secret of theirs is erased from the rows.

    Does nothing to one that is revoked already. Refused("not_found").
    """
    with ctx.store.write() as conn:
        revoke_row(ctx, conn, existing_enrolment(conn, enrolment_id), by)


def revoke_row(ctx: ServiceContext, conn: Connection, row: EnrolmentRow, by: str) -> bool:
    """The same in a transaction under way; False if it was revoked before."""
    if row.status == "revoked":
        return False
    now = ctx.clock()
    withdraw_codes(conn, row.id, now)
    drop_pending_logins(conn, row.id)
    revoked = revoke_credentials_of(conn, row.id)
    update_enrolment(
        conn,
        row.id,
        status="revoked",
        status_reason="revoked_by_operator",
        next_signing_key=None,
        sealed_base_ot=None,
        sealed_pending_base_ot=None,
        pending_base_ot_id=None,
        sealed_template=None,
        change_challenge=None,
        sealed_change=None,
        updated_at=now,
    )
    detail: EventDetail = {"credentials": revoked, "by": by}
    append_event(conn, at=now, enrolment_id=row.id, name="enrolment_revoked", detail=detail)
    return True


def revoke_credential(ctx: ServiceContext, credential_id: bytes, *, by: str = COMMAND_LINE) -> None:
    """End one credential for good: the server's share of its key is erased.

    Does nothing to one that is revoked already. Refused("not_found").
    """
    with ctx.store.write() as conn:
        credential = load_credential(conn, credential_id)
        if credential is None:
            raise Refused("not_found")
        if credential.status == "revoked":
            return
        erase_credential(conn, credential_id)
        append_event(
            conn,
            at=ctx.clock(),
            enrolment_id=credential.enrolment_id,
            name="credential_revoked",
            detail={"credential_id": credential_id.hex(), "by": by},
        )


def existing_enrolment(conn: Connection, enrolment_id: bytes, *, lock: bool = True) -> EnrolmentRow:
    """The enrolment, its row locked unless the transaction only reads. Refused("not_found"), also for an erased one."""
    row = load_enrolment(conn, enrolment_id, lock=lock)
    if row is None or row.status == "erased":
        raise Refused("not_found")
    return row


def insert_new_code(
    ctx: ServiceContext,
    conn: Connection,
    purpose: CodePurpose,
    *,
    label: str,
    enrolment_id: bytes | None,
    lifetime_s: int,
) -> IssuedCode:
    """Make a code and store its hash. The caller appends the event."""
    code = new_code(ctx.rng)
    stored_as = code_hash(code)
    assert stored_as is not None
    now = ctx.clock()
    insert_code(
        conn,
        code_hash=stored_as,
        purpose=purpose,
        enrolment_id=enrolment_id,
        label=label,
        created_at=now,
        expires_at=now + lifetime_s,
    )
    return IssuedCode(code, now + lifetime_s, stored_as)
