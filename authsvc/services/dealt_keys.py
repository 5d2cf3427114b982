"""What becomes of each half of a ceremony in the transaction of its import.

| here already | becomes of it |
|---|---|
| nothing | the half is stored, for a device that is enrolled |
| the same key of this ceremony, revoked or active | stays as it is; in use it goes to no other enrolment |
| the same, waiting or being registered | stays, or goes to the enrolment of the device that replaces the old one |
| the same key of another ceremony | refused |
| a credential of a device's own under the key's id | gives way, unless it is in use with that very key |
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from mpc.primitives import base64url
from mpc.threshold_rsa.shares import KeyShare

from ..store.credentials import (
    WAITING,
    CredentialRow,
    delete_credential,
    enrolment_with_more_waiting,
    insert_credential,
    load_credential,
    rebind_credential,
)
from ..store.enrolments import load_enrolment
from ..store.events import append_event
from ..store.logins import drop_pending_logins_with
from .context import ServiceContext
from .provisioning_refusals import ProvisioningRefused
from .secrets_at_rest import open_key_share

MAX_WAITING_KEYS = 1_000
"""For one enrolment: a device's vault holds 1,024 credentials."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Key ids, in the manifest's order."""

    new: tuple[bytes, ...]
    known: tuple[bytes, ...]
    """Here before, and left as they were."""
    rebound: tuple[bytes, ...]
    """Waiting before for another enrolment."""
    revoked: tuple[bytes, ...]
    """Those among the known that are revoked, and stay so."""
    displaced: tuple[bytes, ...]
    """Those among the new whose id a device had taken for a credential of its own."""


@dataclass(frozen=True, slots=True)
class DealtHalf:
    """This server's half of one key, and the row it may become.

    The row has no sealed share, and is not stored, where the enrolment that the key was dealt to has no data key here.
    """

    row: CredentialRow
    share: KeyShare = field(repr=False)


def store_halves(
    ctx: ServiceContext, conn: Connection, halves: Sequence[DealtHalf], known: Mapping[bytes, CredentialRow]
) -> Stored:
    """Store the halves of a ceremony. known: what is here of it already, by id.

    Raises ProvisioningRefused, after which the transaction must not be committed.
    """
    new, same, rebound, revoked, displaced = [], [], [], [], []
    for half in halves:
        row = half.row
        existing = known.get(row.id)
        if existing is None:
            if _make_way(ctx, conn, row):
                displaced.append(row.id)
            _require_enrolment(conn, row)
            insert_credential(conn, row)
            new.append(row.id)
            continue
        _require_same_terms(existing, row)
        if existing.status == "revoked":
            same.append(row.id)
            revoked.append(row.id)
            continue
        _require_same_half(ctx, conn, existing, half)
        if existing.enrolment_id == row.enrolment_id:
            same.append(row.id)
        else:
            _rebind(ctx, conn, existing, row)
            rebound.append(row.id)
    _require_room(conn)
    return Stored(tuple(new), tuple(same), tuple(rebound), tuple(revoked), tuple(displaced))


def _make_way(ctx: ServiceContext, conn: Connection, row: CredentialRow) -> bool:
    """Whether a credential of a device's own had to give the key's id up.

    Devices choose their ids at random, so this one was chosen by somebody who knew the key's: one enrolled device must
    not be able to stop a ceremony. In use with this very modulus it is more than a taken id, and a person decides.
    """
    existing = load_credential(conn, row.id)
    if existing is None:
        return False
    if existing.ceremony_id is not None:
        raise ProvisioningRefused(
            "other_credential",
            f"key {base64url.encode(row.id)} is here already and does not come from this ceremony (enrolment"
            f" {existing.enrolment_id.hex()}); a key is dealt once, so find out which of the two is real",
        )
    if existing.status == "active" and existing.modulus == row.modulus:
        raise ProvisioningRefused(
            "other_credential",
            f"key {base64url.encode(row.id)} is in use already as a passkey of enrolment {existing.enrolment_id.hex()},"
            " which brought it itself; find out how that device came by it, and revoke that passkey before you import"
            " again",
        )
    # An answer that is still to be confirmed would refresh the share that is stored under this id by then.
    drop_pending_logins_with(conn, existing.enrolment_id, existing.id)
    delete_credential(conn, existing.id)
    detail = {"key_id": row.id.hex(), "status": existing.status}
    append_event(conn, at=ctx.clock(), enrolment_id=existing.enrolment_id, name="credential_displaced", detail=detail)
    return True


def _require_enrolment(conn: Connection, row: CredentialRow) -> None:
    enrolment = load_enrolment(conn, row.enrolment_id, lock=True)
    if enrolment is None or enrolment.status == "erased":
        raise ProvisioningRefused(
            "unknown_enrolment",
            f"key {base64url.encode(row.id)} was dealt to the device with enrolment {row.enrolment_id.hex()}, which is"
            " not enrolled here; nothing was stored",
        )
    if enrolment.status in ("enrolling", "revoked"):
        raise ProvisioningRefused(
            "enrolment_not_usable",
            f"key {base64url.encode(row.id)} was dealt to enrolment {row.enrolment_id.hex()}, which is"
            f" {'revoked' if enrolment.status == 'revoked' else 'not finished'}; nothing was stored",
        )
    assert row.sealed_share is not None


def _require_same_terms(existing: CredentialRow, row: CredentialRow) -> None:
    same = (existing.modulus, existing.exponent, existing.rp_id, existing.not_after)
    if same != (row.modulus, row.exponent, row.rp_id, row.not_after):
        raise ProvisioningRefused(
            "changed_key",
            f"key {base64url.encode(row.id)} was imported with another relying party or expiry; these never change",
        )


def _require_same_half(ctx: ServiceContext, conn: Connection, existing: CredentialRow, half: DealtHalf) -> None:
    """A rewrap seals the half that was dealt; another half is another key in all but name.

    An active key's share was refreshed, so there is nothing left to compare it with.
    """
    if existing.status == "active":
        return
    ours = open_key_share(ctx.keyring.key_of(conn, existing.enrolment_id), existing)
    if not hmac.compare_digest(ours.to_bytes(), half.share.to_bytes()):
        raise ProvisioningRefused(
            "changed_key", f"the half of key {base64url.encode(existing.id)} is not the one that was imported before"
        )


def _rebind(ctx: ServiceContext, conn: Connection, existing: CredentialRow, row: CredentialRow) -> None:
    """A waiting half goes to the enrolment of the device that replaces the one it was dealt to."""
    if existing.status not in WAITING:
        raise ProvisioningRefused(
            "key_in_use",
            f"key {base64url.encode(row.id)} is in use by enrolment {existing.enrolment_id.hex()} and cannot go to"
            " another; revoke it and deal a new one",
        )
    _require_enrolment(conn, row)
    assert row.sealed_share is not None
    rebind_credential(conn, row.id, row.enrolment_id, row.sealed_share)
    for enrolment_id, other in ((row.enrolment_id, existing.enrolment_id), (existing.enrolment_id, row.enrolment_id)):
        direction = "from" if enrolment_id == row.enrolment_id else "to"
        append_event(
            conn,
            at=ctx.clock(),
            enrolment_id=enrolment_id,
            name="provisioned_key_rebound",
            detail={"key_id": row.id.hex(), direction: other.hex()},
        )


def _require_room(conn: Connection) -> None:
    full = enrolment_with_more_waiting(conn, MAX_WAITING_KEYS)
    if full is not None:
        raise ProvisioningRefused(
            "too_many_keys",
            f"more than {MAX_WAITING_KEYS} keys would wait for enrolment {full.hex()}, which no device can hold; deal"
            " fewer, or revoke some that wait",
        )
