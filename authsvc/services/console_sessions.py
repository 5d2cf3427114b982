"""Signing in to the web console with an API token, and the session that stands for it afterwards.

A session is 32 random bytes in a cookie. The database holds their hash, so that a stolen copy of it signs nobody in.
It ends when it is not used for a quarter of an hour, eight hours after it began, at sign-out, and with its token:
every request looks at the token's row again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mpc.primitives import base64url
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.secrecy import NeverPickled

from ..store.api_tokens import load_token
from ..store.console_sessions import (
    ConsoleSessionRow,
    delete_ended_sessions,
    delete_session,
    extend_session,
    insert_session,
    load_session,
)
from ..store.events import append_event
from ..tokens import Scope
from .api_tokens import Principal, authenticate_token, scopes_of
from .context import ServiceContext

IDLE_S: Final = 15 * 60.0
ABSOLUTE_S: Final = 8 * 3600.0
_EXTENDED_EVERY_S: Final = 60.0
_ID_BYTES: Final = 32
SCOPES: Final = frozenset({Scope.OPERATOR, Scope.AUDITOR})
"""A token must have one of these to sign in."""


@dataclass(frozen=True, slots=True)
class ConsoleSession(NeverPickled):
    """A session that holds now."""

    principal: Principal
    id_hash: bytes = field(repr=False)
    csrf_token: str = field(repr=False)
    """What every form of this session carries: derived from the cookie, which no other site can read or guess."""


def sign_in(ctx: ServiceContext, token_text: str, *, instead_of: str | None = None) -> str | None:
    """The cookie value of a new session. None alike for a token that is malformed, unknown, wrong, expired, revoked or
    without one of `SCOPES`.

    instead_of: the cookie that came with the request. Its session ends, and its value is never taken up: a value that
    somebody else planted in the browser is worth nothing. Raises StoreUnavailable.
    """
    principal = authenticate_token(ctx, token_text)
    if principal is None or not principal.scopes & SCOPES:
        return None
    session_id, now = ctx.rng.bytes(_ID_BYTES), ctx.clock()
    before = _parsed(instead_of)
    with ctx.store.write() as conn:
        delete_ended_sessions(conn, now)
        if before is not None:
            delete_session(conn, _hash(before))
        insert_session(
            conn, ConsoleSessionRow(_hash(session_id), principal.token_id, now, min(now + IDLE_S, principal.expires_at))
        )
        append_event(conn, at=now, name="console_signed_in", detail={"by": principal.by})
    return base64url.encode(session_id)


def current_session(ctx: ServiceContext, cookie: str | None) -> ConsoleSession | None:
    """The session that a cookie stands for; None if there is none, or it or its token has ended.

    Using it puts off its end, up to the absolute lifetime; that is written once a minute at most.
    """
    session_id = _parsed(cookie)
    if session_id is None:
        return None
    id_hash, now = _hash(session_id), ctx.clock()
    with ctx.store.read() as conn:
        row = load_session(conn, id_hash)
        token = None if row is None else load_token(conn, row.token_id)
    if row is None or token is None or token.revoked_at is not None:
        return None
    latest = min(row.created_at + ABSOLUTE_S, token.expires_at)
    if now >= min(row.expires_at, latest):
        return None
    principal = Principal(token.id, token.name, scopes_of(token), token.expires_at)
    if not principal.scopes & SCOPES:
        return None
    until = min(now + IDLE_S, latest)
    if until - row.expires_at >= _EXTENDED_EVERY_S:
        with ctx.store.write() as conn:
            extend_session(conn, id_hash, until)
    csrf = tagged_hash("tandem console form v1", session_id)
    return ConsoleSession(principal, id_hash, base64url.encode(csrf))


def sign_out(ctx: ServiceContext, session: ConsoleSession) -> None:
    """End a session at once, for every browser that has its cookie."""
    with ctx.store.write() as conn:
        if delete_session(conn, session.id_hash):
            append_event(conn, at=ctx.clock(), name="console_signed_out", detail={"by": session.principal.by})


def _parsed(cookie: str | None) -> bytes | None:
    if cookie is None or len(cookie) != 43:
        return None
    try:
        return base64url.decode(cookie)
    except ValueError:
        return None


def _hash(session_id: bytes) -> bytes:
    return tagged_hash("tandem console session v1", session_id)
