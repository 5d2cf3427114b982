"""A device takes a key that was dealt for it: it shows that its half fits, and later registers with it.

Whatever does not fit is refused with "provisioned_key_not_usable", in one body. Only a key that waits for the very
enrolment that asks, or that it is registering, costs an exponentiation; all other refusals come as fast as each other.
The clock therefore tells a device that a key was dealt to it, which the share it was given says anyway, and nothing
about anybody else's keys. A check against a dummy would hide no more and would let every id cost an exponentiation.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from mpc.login.enrolment_messages import Accepted
from mpc.login.provisioned_messages import AdoptKey, PairingStatement, PairShares, pairing_proof_is_valid

from ..errors import Refused
from ..policy import DAY_S
from ..store.credentials import (
    WAITING,
    CredentialRow,
    CredentialStatus,
    count_credentials,
    delete_abandoned_credentials,
    load_credential,
    set_credential_status,
)
from ..store.enrolments import EnrolmentRow, load_enrolment
from ..store.event_names import EventName
from ..store.events import append_event
from ..store.logins import pending_logins
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment
from .rate_limits import PAIRING_PROOFS, give_back, spend
from .secrets_at_rest import open_key_share

_PAIRABLE: Final[tuple[CredentialStatus, ...]] = (*WAITING, "provisional")


def pair(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """The device's half fits ours, so that it may store it. The answer tells the key's last signature counter.

    Repeating it changes nothing and is answered alike, also while the key is being registered: a vault restored from
    before the import takes its half again. Raises Refused: "unauthenticated", "not_active",
    "provisioned_key_not_usable", "rp_not_allowed", "throttled" after too many proofs that paired nothing; DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
        message = PairShares.decode(request.body)
        require_same_enrolment(enrolment, message.enrolment_id)
        _require_active(enrolment)
        checked = _usable(ctx, conn, enrolment, message.key_id, _PAIRABLE)
        key = ctx.keyring.key_of(conn, enrolment.id)
    spend(ctx, PAIRING_PROOFS, enrolment.id)
    share = open_key_share(key, checked)
    statement = PairingStatement(
        ctx.policy.server_id, enrolment.id, checked.rp_id, checked.not_after, checked.ceremony_id or b""
    )
    if not pairing_proof_is_valid(share, statement, message.proof):
        raise Refused("provisioned_key_not_usable")
    with ctx.store.write() as conn:
        current = _require_active(load_enrolment(conn, enrolment.id, lock=True))
        credential = _usable(ctx, conn, current, message.key_id, _PAIRABLE)
        # The proof was checked against the share of the snapshot; one written since is another matter.
        if credential.sealed_share != checked.sealed_share:
            raise Refused("provisioned_key_not_usable")
        paired_now = credential.status == "provisioned"
        if paired_now:
            set_credential_status(conn, credential.id, "paired")
            _tell(ctx, conn, credential, "provisioned_key_paired")
    if paired_now:
        give_back(ctx, PAIRING_PROOFS, enrolment.id)  # each key is paired once: it costs nothing
    return Accepted(current.epoch, current.last_index, ((credential.id, credential.sign_count),)).encode()


def adopt(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """The device registers with its paired key: it becomes a provisional credential with the algorithm named.

    May be repeated until the first signature is confirmed, also with another algorithm while no answered login would
    confirm the one before. Raises Refused: "unauthenticated", "not_active", "provisioned_key_not_usable",
    "rp_not_allowed", "wrong_state" (such a login is pending), "credential_conflict" (the enrolment holds as many
    credentials as the policy allows); DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = AdoptKey.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    with ctx.store.write() as conn:
        current = _require_active(load_enrolment(conn, enrolment.id, lock=True))
        credential = _usable(ctx, conn, current, message.key_id, ("paired", "provisional"))
        if credential.status == "paired":
            delete_abandoned_credentials(conn, current.id, ctx.clock() - DAY_S)
            if count_credentials(conn, current.id) >= ctx.policy.limits.max_credentials_per_enrolment:
                raise Refused("credential_conflict")
            set_credential_status(conn, credential.id, "provisional", algorithm=message.algorithm)
            _tell(ctx, conn, credential, "provisioned_key_adopted")
        elif credential.algorithm != message.algorithm:
            # Its signature went out under the other algorithm, and confirming it would make this one active.
            if any(row.credential_id == credential.id for row in pending_logins(conn, current.id)):
                raise Refused("wrong_state")
            set_credential_status(conn, credential.id, "provisional", algorithm=message.algorithm)
    return Accepted(current.epoch, current.last_index).encode()


def _usable(
    ctx: ServiceContext,
    conn: Connection,
    enrolment: EnrolmentRow,
    key_id: bytes,
    statuses: tuple[CredentialStatus, ...],
) -> CredentialRow:
    """The provisioned key of this enrolment in one of these states. Refused("provisioned_key_not_usable")."""
    credential = load_credential(conn, key_id)
    if (
        credential is None
        or credential.ceremony_id is None
        or credential.enrolment_id != enrolment.id
        or credential.status not in statuses
        or credential.has_expired(ctx.clock())
    ):
        raise Refused("provisioned_key_not_usable")
    if credential.rp_id not in ctx.policy.allowed_rp_ids:
        raise Refused("rp_not_allowed")
    return credential


def _require_active(enrolment: EnrolmentRow | None) -> EnrolmentRow:
    if enrolment is None or enrolment.status != "active":
        raise Refused("not_active")
    return enrolment


def _tell(ctx: ServiceContext, conn: Connection, credential: CredentialRow, name: EventName) -> None:
    detail = {"key_id": credential.id.hex()}
    append_event(conn, at=ctx.clock(), enrolment_id=credential.enrolment_id, name=name, detail=detail)
