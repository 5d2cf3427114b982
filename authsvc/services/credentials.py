"""Adding a credential: the server's share of a key for one relying party, provisional until its first signature."""

from __future__ import annotations

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.login.enrolment_messages import Accepted, AddCredential, RevokeCredential
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare

from ..errors import Refused
from ..policy import DAY_S, Policy
from ..store.credentials import (
    CredentialRow,
    count_credentials,
    delete_abandoned_credentials,
    delete_credential,
    has_waiting_key,
    insert_credential,
    load_credential,
    revoke_credential,
)
from ..store.enrolments import load_enrolment
from ..store.events import append_event
from ..store.logins import pending_logins
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment
from .secrets_at_rest import seal_key_share


def add(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Store the share. Repeating it after a lost answer changes nothing and is answered alike.

    Raises Refused: "unauthenticated", "not_active", "rp_not_allowed", "provisioning_required" (also while a dealt key
    waits for this enrolment and relying party), "credential_conflict" (the id is taken, the key is one of a ceremony,
    or the enrolment holds as many as the policy allows); DecodeError for a key or share that is not acceptable.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
        ctx.keyring.prefetch(conn, enrolment.id)
    message = AddCredential.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    if message.rp_id not in ctx.policy.allowed_rp_ids:
        raise Refused("rp_not_allowed")
    require_allowed_origin(ctx.policy, message.rp_id, ceremony_id=None)
    try:
        key = PublicKey.from_bytes(message.modulus, message.exponent)
    except ValueError as error:
        raise DecodeError("add_credential.modulus", str(error)) from None
    share = KeyShare.from_bytes(key, message.key_share)
    if share.value < 0:
        raise DecodeError("add_credential.key_share", "the server's share is the positive one")
    now = ctx.clock()
    with ctx.store.write() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        if current is None or current.status != "active":
            raise Refused("not_active")
        delete_abandoned_credentials(conn, enrolment.id, now - DAY_S)
        existing = load_credential(conn, message.credential_id)
        if existing is not None:
            if not _is_same(existing, message):
                raise Refused("credential_conflict")
        elif _is_dealt(conn, key):
            raise Refused("credential_conflict")
        elif has_waiting_key(conn, enrolment.id, message.rp_id, now):
            raise Refused("provisioning_required")
        elif count_credentials(conn, enrolment.id) >= ctx.policy.limits.max_credentials_per_enrolment:
            raise Refused("credential_conflict")
        else:
            data_key = ctx.keyring.key_of(conn, enrolment.id)
            insert_credential(
                conn,
                CredentialRow(
                    id=message.credential_id,
                    enrolment_id=enrolment.id,
                    rp_id=message.rp_id,
                    algorithm=message.algorithm,
                    modulus=message.modulus,
                    exponent=message.exponent,
                    sealed_share=seal_key_share(data_key, message.credential_id, share),
                    status="provisional",
                    sign_count=0,
                    created_at=now,
                ),
            )
            append_event(conn, at=now, name="credential_added", enrolment_id=enrolment.id)
    return Accepted(current.epoch, current.last_index).encode()


def revoke(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """The device gives one of its credentials up: the server's share is erased.

    Whoever holds the request key may do this, whatever the enrolment's state: it can only take power away.
    An id that is not this enrolment's is answered like one that was revoked before.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = RevokeCredential.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    with ctx.store.write() as conn:
        existing = load_credential(conn, message.credential_id)
        if existing is not None and existing.enrolment_id == enrolment.id and existing.status != "revoked":
            answered = any(row.credential_id == existing.id for row in pending_logins(conn, enrolment.id))
            if existing.status == "provisional" and not answered and existing.ceremony_id is None:
                delete_credential(conn, existing.id)  # no confirmed signature: there is nothing to remember
            else:
                revoke_credential(conn, existing.id)
            append_event(conn, at=ctx.clock(), name="credential_revoked_by_device", enrolment_id=enrolment.id)
    return Accepted(enrolment.epoch, enrolment.last_index).encode()


def require_allowed_origin(policy: Policy, rp_id: str, ceremony_id: bytes | None) -> None:
    """Whether a new key for this relying party may come from where it comes. Refused("provisioning_required")."""
    if ceremony_id is None and rp_id in policy.provisioned_only_rp_ids:
        raise Refused("provisioning_required")


def _is_dealt(conn: Connection, key: PublicKey) -> bool:
    """Whether this very key was dealt in a ceremony.

    Under a second id it would outlive its revocation and its expiry.
    """
    dealt = load_credential(conn, key.key_id)
    return dealt is not None and dealt.ceremony_id is not None


def _is_same(existing: CredentialRow, message: AddCredential) -> bool:
    return (
        existing.enrolment_id == message.enrolment_id
        and existing.status == "provisional"
        and existing.ceremony_id is None
        and existing.modulus == message.modulus
        and existing.rp_id == message.rp_id
        and existing.algorithm == message.algorithm
    )
