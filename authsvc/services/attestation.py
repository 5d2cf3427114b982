"""The attestation authority at rest, and what it attests.

Both private keys stand sealed in one row, as the audit log's key does: under the server's own data key, which the
key-encryption key wraps. What is attested is what this server knows of a credential itself, never bytes as received.
"""

from __future__ import annotations

from typing import Final, Literal

import structlog
from sqlalchemy import Connection

from mpc.login.attestation import AttestationStatement
from mpc.login.messages import LoginStatement
from mpc.login.profile import Profile

from ..attestation_certificates import AttestationAuthority, fingerprint
from ..policy import AttestationScope
from ..sealing import SERVER_OWNER
from ..store.credentials import CredentialRow
from ..store.events import EventDetail, append_event
from ..store.server_state import load_state, put_state
from .authenticator_data import expected_data
from .context import COMMAND_LINE, ServiceContext
from .secrets_at_rest import open_server_value, seal_server_value

NAME: Final = "attestation_authority"
_SERVER: Final = "server"
"""How an event names a renewal that no operator asked for."""

Reason = Literal["exists", "malformed", "none", "root_expired"]
_log = structlog.get_logger()


class AttestationRefused(Exception):
    """A command about the attestation authority did nothing; the text says why and what to do. `reason` is stable."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


def create(ctx: ServiceContext, *, country: str, organization: str, replace: bool = False) -> AttestationAuthority:
    """A new root and attestation certificate. AttestationRefused: "exists" unless `replace`, "malformed"."""
    try:
        made = AttestationAuthority.new(country, organization, ctx.clock())
    except ValueError as error:
        raise AttestationRefused("malformed", str(error)) from None
    with ctx.store.write() as conn:
        # One that does not open any more can be replaced, too.
        if not replace and load_state(conn, NAME) is not None:
            raise AttestationRefused(
                "exists",
                "there is an attestation authority already, and relying parties know its root; --replace makes another"
                " one, for a key that was lost to somebody",
            )
        detail = {"root": fingerprint(made.root), "by": COMMAND_LINE}
        append_event(conn, at=ctx.clock(), name="attestation_authority_created", detail=detail)
        _store(ctx, conn, made, COMMAND_LINE)
    return made


def renew(ctx: ServiceContext) -> AttestationAuthority:
    """A new attestation key and certificate under the same root, whether one is due or not.

    AttestationRefused: "none", "root_expired".
    """
    with ctx.store.write() as conn:
        before = _required(load(ctx, conn))
        try:
            return _renewed(ctx, conn, before, COMMAND_LINE)
        except ValueError as error:
            raise AttestationRefused("root_expired", str(error)) from None


def current(ctx: ServiceContext) -> AttestationAuthority:
    """AttestationRefused: "none". SealingError, KeyUnavailable, StoreUnavailable."""
    with ctx.store.read() as conn:
        return _required(load(ctx, conn))


def load(ctx: ServiceContext, conn: Connection) -> AttestationAuthority | None:
    """What the row holds. SealingError, KeyUnavailable."""
    sealed = load_state(conn, NAME)
    if sealed is None:
        return None
    return AttestationAuthority.from_bytes(open_server_value(ctx.keyring.key_of(conn, SERVER_OWNER), NAME, sealed))


def renew_if_due(ctx: ServiceContext) -> None:
    """For requests that ask for an attestation, before any other transaction of theirs."""
    if ctx.policy.attestation == "off":
        return
    with ctx.store.read() as conn:
        found = load(ctx, conn)
    if found is None or not found.is_due(ctx.clock()):
        return
    with ctx.store.write() as conn:
        found = load(ctx, conn)  # another worker may have been faster
        if found is not None and found.is_due(ctx.clock()):
            _renewed(ctx, conn, found, _SERVER)


def attester(ctx: ServiceContext, conn: Connection) -> AttestationAuthority | None:
    """Who attests registrations now; None where the policy wants none, or there is nobody."""
    if ctx.policy.attestation == "off":
        return None
    found = load(ctx, conn)
    if found is not None and not found.is_usable(ctx.clock()):
        _log.error("attestation_certificate_expired", not_after=found.certificate.not_valid_after_utc.isoformat())
        return None
    return found


def attested(
    by: AttestationAuthority,
    scope: AttestationScope,
    credential: CredentialRow,
    profile: Profile,
    statement: LoginStatement,
) -> AttestationStatement | None:
    """The attestation of a registration, over authenticator data that are built here. scope: the policy's.

    None for a credential that the policy does not want attested, and where the data received are not the same: then the
    answer does not go out either.
    """
    if scope == "off" or (scope == "provisioned" and credential.ceremony_id is None):
        return None
    expected = expected_data(statement, credential, profile)
    if expected is None:
        return None
    return by.attests(expected + statement.client_data_hash)


def _required(found: AttestationAuthority | None) -> AttestationAuthority:
    if found is None:
        raise AttestationRefused("none", "there is no attestation authority; make one with authsvc attestation init")
    return found


def _renewed(ctx: ServiceContext, conn: Connection, before: AttestationAuthority, by: str) -> AttestationAuthority:
    after = before.renewed(ctx.clock())
    _store(ctx, conn, after, by)
    return after


def _store(ctx: ServiceContext, conn: Connection, authority: AttestationAuthority, by: str) -> None:
    own = ctx.keyring.key_of(conn, SERVER_OWNER)
    put_state(conn, NAME, seal_server_value(own, NAME, authority.to_bytes()))
    detail: EventDetail = {
        "certificate": fingerprint(authority.certificate),
        "not_after": int(authority.certificate.not_valid_after_utc.timestamp()),
        "by": by,
    }
    append_event(conn, at=ctx.clock(), name="attestation_certificate_issued", detail=detail)
