"""Who may use the admin API: issuing, checking and revoking bearer tokens."""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field

from ..errors import Refused
from ..policy import DAY_S
from ..store.api_tokens import (
    ApiTokenRow,
    insert_token,
    list_tokens,
    load_token,
    mark_token_revoked,
    note_token_use,
)
from ..store.engine import StoreUnavailable
from ..store.events import EventDetail, append_event
from ..tokens import Scope, Token
from .context import COMMAND_LINE, ServiceContext

MAX_NAME_CHARACTERS = 100
MAX_LIFETIME_DAYS = 730
DEFAULT_LIFETIME_DAYS = 90
_NOTED_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a token belongs to."""

    token_id: bytes
    name: str
    scopes: frozenset[Scope]
    expires_at: float

    @property
    def by(self) -> str:
        """How the events of what it does name it."""
        return self.token_id.hex()


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A fresh token; the text is shown once, since only its hash is kept. expires_at: Unix seconds."""

    text: str = field(repr=False)
    id: bytes
    expires_at: float


def issue_token(
    ctx: ServiceContext,
    *,
    name: str,
    scopes: Collection[Scope],
    lifetime_days: int = DEFAULT_LIFETIME_DAYS,
    by: str = COMMAND_LINE,
) -> IssuedToken:
    """A token with these scopes.

    name: whose it is, 1 to 100 printable characters. lifetime_days: 1 to 730. Refused("malformed") outside of these.
    """
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise Refused("malformed", field="name")
    if not scopes:
        raise Refused("malformed", field="scope")
    if not 1 <= lifetime_days <= MAX_LIFETIME_DAYS:
        raise Refused("malformed", field="lifetime_days")
    token, now, told = Token.new(ctx.rng), ctx.clock(), " ".join(sorted(set(scopes)))
    expires_at = now + lifetime_days * DAY_S
    with ctx.store.write() as conn:
        insert_token(conn, ApiTokenRow(token.id, name, told, token.hash, now, expires_at))
        detail: EventDetail = {
            "token_id": token.id.hex(),
            "scopes": told,
            "lifetime_days": lifetime_days,
            "by": by,
        }
        append_event(conn, at=now, name="token_issued", detail=detail)
    return IssuedToken(token.text, token.id, expires_at)


def authenticate_token(ctx: ServiceContext, text: str) -> Principal | None:
    """Whose token this is; None alike if it is malformed, unknown, wrong, expired or revoked.

    Notes the time of use, once a minute at most. Raises StoreUnavailable.
    """
    token = Token.parse(text)
    if token is None:
        return None
    now = ctx.clock()
    with ctx.store.read() as conn:
        row = load_token(conn, token.id)
    right = hmac.compare_digest(token.hash, bytes(32) if row is None else row.secret_hash)
    if row is None or not right or row.revoked_at is not None or now >= row.expires_at:
        return None
    if row.last_used_at is None or row.last_used_at < now - _NOTED_EVERY_S:
        # Whether this is written decides nothing.
        with contextlib.suppress(StoreUnavailable), ctx.store.write() as conn:
            note_token_use(conn, row.id, now, unless_since=now - _NOTED_EVERY_S)
    return Principal(row.id, row.name, scopes_of(row), row.expires_at)


def every_token(ctx: ServiceContext) -> list[ApiTokenRow]:
    """All tokens, ended ones included, oldest first."""
    with ctx.store.read() as conn:
        return list_tokens(conn)


def revoke_token(ctx: ServiceContext, token_id: bytes, *, by: str = COMMAND_LINE) -> None:
    """End a token at once. Does nothing to one that is revoked already. Refused("not_found")."""
    now = ctx.clock()
    with ctx.store.write() as conn:
        if load_token(conn, token_id) is None:
            raise Refused("not_found")
        if mark_token_revoked(conn, token_id, now):
            append_event(conn, at=now, name="token_revoked", detail={"token_id": token_id.hex(), "by": by})


def scopes_of(row: ApiTokenRow) -> frozenset[Scope]:
    """A scope that this version does not know gives nothing."""
    return frozenset(scope for scope in Scope if scope in row.scopes.split(" "))
