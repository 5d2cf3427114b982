"""Revoking many at once: enrolments by a list, credentials by relying party. All of what is named, or nothing."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from mpc.primitives.hashing import tagged_hash

from ..errors import Refused
from ..store.credentials import CredentialRow, list_of_relying_party
from ..store.credentials import revoke_credential as erase_share
from ..store.enrolments import load_enrolment
from ..store.events import EventDetail, append_event
from .administration import revoke_row
from .context import COMMAND_LINE, ServiceContext

MAX_LIST_BYTES = 16 * 1024 * 1024
_CONFIRMATION_DIGITS = 12


@dataclass(frozen=True, slots=True)
class NamedEnrolment:
    """An enrolment that an operator named, and where, as in "line 3"; for the sentence if it is not here."""

    enrolment_id: bytes
    where: str


@dataclass(frozen=True, slots=True)
class RevokedEnrolments:
    """What was done. Enrolment ids."""

    revoked: tuple[bytes, ...]
    before: tuple[bytes, ...]
    """Revoked already."""
    unknown: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AtRelyingParty:
    """What a revocation of all credentials of a relying party would end now."""

    credentials: int
    enrolments: int
    confirmation: str
    """To be given back: it is of exactly these credentials, so that nobody revokes what he has not counted."""


def read_enrolment_list(data: bytes) -> list[NamedEnrolment]:
    """The ids in a file: 32 hexadecimal digits a line; empty lines and lines with # first are left out.

    Refused("malformed"), naming the line.
    """
    if len(data) > MAX_LIST_BYTES:
        raise Refused("malformed", field="file: too large")
    named = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        text = line.strip(b" \t\r")
        if text and not text.startswith(b"#"):
            named.append(named_enrolment(text.decode("ascii", "replace"), f"line {number}"))
    return named


def named_enrolment(text: str, where: str) -> NamedEnrolment:
    """An id as a person gives it. Refused("malformed"), naming the place."""
    try:
        value = bytes.fromhex(text) if len(text) == 32 else b""
    except ValueError:
        value = b""
    if len(value) != 16:
        raise Refused("malformed", field=where)
    return NamedEnrolment(value, where)


def revoke_enrolments(
    ctx: ServiceContext, named: Sequence[NamedEnrolment], *, ignore_unknown: bool = False, by: str = COMMAND_LINE
) -> RevokedEnrolments:
    """Revoke enrolments with all their credentials, all or none. Repeating it changes nothing.

    Raises Refused("not_found") with the place of an id that is no enrolment here, unless `ignore_unknown`.
    """
    revoked: list[bytes] = []
    before: list[bytes] = []
    unknown: list[bytes] = []
    with ctx.store.write() as conn:
        for item in {each.enrolment_id: each for each in named}.values():
            row = load_enrolment(conn, item.enrolment_id, lock=True)
            if row is not None and row.status != "erased":
                (revoked if revoke_row(ctx, conn, row, by) else before).append(row.id)
            elif ignore_unknown:
                unknown.append(item.enrolment_id)
            else:
                raise Refused("not_found", field=item.where)
    return RevokedEnrolments(tuple(revoked), tuple(before), tuple(unknown))


def at_relying_party(ctx: ServiceContext, rp_id: str) -> AtRelyingParty:
    """What there is at a relying party, waiting keys included."""
    with ctx.store.read() as conn:
        return _counted(list_of_relying_party(conn, rp_id))


def revoke_at_relying_party(
    ctx: ServiceContext, rp_id: str, *, confirmation: str, by: str = COMMAND_LINE
) -> AtRelyingParty:
    """Revoke every credential for a relying party, all or none; what was revoked.

    confirmation: from `at_relying_party`. Refused("wrong_confirmation") if the credentials are other ones by now.
    """
    now = ctx.clock()
    with ctx.store.write() as conn:
        rows = list_of_relying_party(conn, rp_id)
        found = _counted(rows)
        if not hmac.compare_digest(found.confirmation.encode(), confirmation.encode("utf-8", "replace")):
            raise Refused("wrong_confirmation")
        for row in rows:
            erase_share(conn, row.id)
            detail = {"credential_id": row.id.hex(), "by": by}
            append_event(conn, at=now, enrolment_id=row.enrolment_id, name="credential_revoked", detail=detail)
        detail_of_all: EventDetail = {"rp_id": rp_id, "credentials": len(rows), "by": by}
        append_event(conn, at=now, name="relying_party_revoked", detail=detail_of_all)
    return found


def _counted(rows: Sequence[CredentialRow]) -> AtRelyingParty:
    digest = tagged_hash("tandem revocation v1", *(row.id for row in rows))
    return AtRelyingParty(
        credentials=len(rows),
        enrolments=len({row.enrolment_id for row in rows}),
        confirmation=digest.hex()[:_CONFIRMATION_DIGITS],
    )
