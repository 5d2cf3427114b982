"""Who is at the other end: the browser's own cookie, the session cookie, and the token against CSRF."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from relying_party_demo.accounts import User, user_by_id
from relying_party_demo.database import Database
from relying_party_demo.settings import RelyingPartySettings

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)  # 32 bytes in base64url
_BROWSER_LIFETIME_S = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in user and the passkey that opened the session."""

    user: User
    credential_id: bytes


@dataclass(frozen=True, slots=True)
class Visitor:
    """One browser. `is_new` means that it has yet to be given its cookie."""

    browser_token: str = field(repr=False)
    session_token: str | None = field(repr=False)
    session: Session | None
    is_new: bool

    @property
    def browser_hash(self) -> bytes:
        """What challenges are bound to; the token itself is kept by the browser only."""
        return _hashed(self.browser_token)


class Visitors:
    """Recognises browsers and keeps sessions: random tokens in cookies, SHA-256 of them in the database.

    Over https the cookies have the prefix `__Host-`, so neither a subdomain nor plain http can plant them.
    Cookies do not tell ports apart: two sites on `localhost` share them and see each other's as unknown.
    """

    def __init__(self, settings: RelyingPartySettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        prefix = "__Host-" if settings.secure else ""
        self._browser_cookie = prefix + "rp_browser"
        self._session_cookie = prefix + "rp_session"

    def recognise(self, request: Request, now: float) -> Visitor:
        browser = request.cookies.get(self._browser_cookie, "")
        is_new = not _TOKEN.fullmatch(browser)
        if is_new:
            browser = secrets.token_urlsafe(32)
        token = request.cookies.get(self._session_cookie, "")
        session = self._session(token, now) if _TOKEN.fullmatch(token) else None
        return Visitor(browser, token if session else None, session, is_new)

    def greet(self, visitor: Visitor, response: Response) -> None:
        """Give a new browser its cookie."""
        if visitor.is_new:
            self._set(response, self._browser_cookie, visitor.browser_token, _BROWSER_LIFETIME_S)

    def csrf_token(self, visitor: Visitor) -> str:
        """What a form or script of this site sends back. It changes when the session does."""
        tied_to = f"{visitor.browser_token}.{visitor.session_token or ''}"
        digest = hmac.new(self._database.site_key, b"relying party v1 csrf\0" + tied_to.encode(), hashlib.sha256)
        return digest.hexdigest()

    def csrf_token_fits(self, visitor: Visitor, received: str) -> bool:
        if visitor.is_new:  # without the cookie there is nothing a token could belong to
            return False
        return hmac.compare_digest(received.encode("utf-8", "replace"), self.csrf_token(visitor).encode())

    def sign_in(self, visitor: Visitor, response: Response, *, user: User, credential_id: bytes, now: float) -> None:
        """Open a session under a new token; one that this browser had before ends."""
        token = secrets.token_urlsafe(32)
        lifetime_s = self._settings.session_lifetime_s
        with self._database.transaction() as transaction:
            transaction.execute("DELETE FROM sessions WHERE expires_at <= ?", (now,))
            if visitor.session_token:
                transaction.execute("DELETE FROM sessions WHERE token_hash = ?", (_hashed(visitor.session_token),))
            transaction.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?)",
                (_hashed(token), user.id, credential_id, now + lifetime_s),
            )
        self._set(response, self._session_cookie, token, int(lifetime_s))

    def sign_out(self, visitor: Visitor, response: Response) -> None:
        """End the session here, not only in the browser."""
        if visitor.session_token:
            with self._database.transaction() as transaction:
                transaction.execute("DELETE FROM sessions WHERE token_hash = ?", (_hashed(visitor.session_token),))
        response.delete_cookie(self._session_cookie, secure=self._settings.secure, httponly=True, samesite="lax")

    def _session(self, token: str, now: float) -> Session | None:
        with self._database.transaction() as transaction:
            row = transaction.execute(
                "SELECT user_id, credential_id FROM sessions WHERE token_hash = ? AND expires_at > ?",
                (_hashed(token), now),
            ).fetchone()
            user = None if row is None else user_by_id(transaction, row["user_id"])
        return None if row is None or user is None else Session(user, row["credential_id"])

    def _set(self, response: Response, name: str, value: str, lifetime_s: int) -> None:
        response.set_cookie(
            name,
            value,
            max_age=lifetime_s,
            path="/",
            secure=self._settings.secure,
            httponly=True,
            samesite="lax",
        )


def _hashed(token: str) -> bytes:
    # The tokens are random and long, so a plain hash is enough: there is nothing to guess from it.
    return hashlib.sha256(token.encode()).digest()
