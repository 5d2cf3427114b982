"""Ending provisioned keys for good: by key id, by ceremony, or by a file of ids, in one transaction.

The shares are erased. The rows stay, so that importing the ceremony again brings nothing back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.primitives.codec import Fields
from mpc.provisioning.signed_document import base64url_field
from mpc.threshold_rsa.share_package import KEY_ID_BYTES

from ..store.ceremonies import load_ceremony, mark_ceremony_revoked
from ..store.credentials import CredentialRow, list_provisioned, load_credential, revoke_credential
from ..store.events import append_event
from .context import COMMAND_LINE, ServiceContext
from .provisioning_refusals import ProvisioningRefused

MAX_LIST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A key that an operator named, and where, as in "line 3"; for the sentence if it is not here."""

    key_id: bytes
    where: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """What was done. Key ids."""

    revoked: tuple[bytes, ...]
    before: tuple[bytes, ...]
    """Revoked already."""
    unknown: tuple[bytes, ...]


def read_key_list(data: bytes) -> list[NamedKey]:
    """The ids in a file: one a line in base64url without padding; empty lines and lines with # first are left out.

    Raises ProvisioningRefused("not_a_key_list"), naming the line.
    """
    if len(data) > MAX_LIST_BYTES:
        raise ProvisioningRefused("not_a_key_list", f"the list is larger than {MAX_LIST_BYTES} bytes")
    named = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        text = line.strip(b" \t\r")
        if text and not text.startswith(b"#"):
            named.append(named_key(text.decode("ascii", "replace"), f"line {number}"))
    return named


def named_key(text: str, where: str) -> NamedKey:
    """A key id as a person gives it. ProvisioningRefused("not_a_key_list"), naming the place."""
    try:
        return NamedKey(base64url_field(Fields({"key_id": text}, "list"), "key_id", length=KEY_ID_BYTES), where)
    except (DecodeError, UnicodeEncodeError):
        raise ProvisioningRefused(
            "not_a_key_list",
            f"{where}: a key id is 43 characters of base64url, as in the manifest; nothing was revoked",
        ) from None


def revoke_keys(
    ctx: ServiceContext, keys: Sequence[NamedKey], *, ignore_unknown: bool = False, by: str = COMMAND_LINE
) -> Revoked:
    """Revoke provisioned keys, all or none. Repeating it changes nothing.

    Raises ProvisioningRefused("unknown_key") for an id that is no provisioned key here, unless `ignore_unknown`.
    """
    with ctx.store.write() as conn:
        found, unknown = [], []
        for named in {key.key_id: key for key in keys}.values():
            row = load_credential(conn, named.key_id)
            if row is not None and row.ceremony_id is not None:
                found.append(row)
            elif ignore_unknown:
                unknown.append(named.key_id)
            else:
                raise ProvisioningRefused(
                    "unknown_key",
                    f"{named.where}: {base64url.encode(named.key_id)} is no provisioned key of this server; nothing was"
                    " revoked (--ignore-unknown passes over such ids)",
                )
        revoked, before = _revoke(ctx, conn, found, by)
    return Revoked(revoked, before, tuple(unknown))


def revoke_ceremony(ctx: ServiceContext, ceremony_id: bytes, *, by: str = COMMAND_LINE) -> Revoked:
    """Revoke every key of a ceremony that was imported here, and take no further revision of it.

    Repeating it changes nothing. ProvisioningRefused("unknown_ceremony").
    """
    with ctx.store.write() as conn:
        if load_ceremony(conn, ceremony_id) is None:
            raise ProvisioningRefused(
                "unknown_ceremony",
                f"nothing of the ceremony {ceremony_id.hex()} was imported here; `authsvc provisioned` lists what was",
            )
        revoked, before = _revoke(ctx, conn, list_provisioned(conn, ceremony_id), by)
        now = ctx.clock()
        if mark_ceremony_revoked(conn, ceremony_id, now):
            append_event(
                conn,
                at=now,
                name="ceremony_revoked",
                detail={"ceremony_id": ceremony_id.hex(), "keys": len(revoked), "by": by},
            )
    return Revoked(revoked, before, ())


def inventory(ctx: ServiceContext, ceremony_id: bytes | None = None) -> list[CredentialRow]:
    """The provisioned keys of one ceremony, or of all, whatever has become of them."""
    with ctx.store.read() as conn:
        return list_provisioned(conn, ceremony_id)


def _revoke(
    ctx: ServiceContext, conn: Connection, rows: Sequence[CredentialRow], by: str
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """(revoked now, revoked before)."""
    now, done = ctx.clock(), []
    for row in rows:
        if row.status != "revoked":
            revoke_credential(conn, row.id)
            done.append(row.id)
            detail = {"key_id": row.id.hex(), "from": row.status, "by": by}
            append_event(conn, at=now, enrolment_id=row.enrolment_id, name="provisioned_key_revoked", detail=detail)
    return tuple(done), tuple(row.id for row in rows if row.status == "revoked")
