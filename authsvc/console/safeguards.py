"""What keeps other sites, caches and frames away from the console's pages: headers, the cookie, the two checks of a
POST.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..services.console_sessions import ABSOLUTE_S, ConsoleSession

FORM_TOKEN: Final = "form_token"  # noqa: S105 (the name of a field)
_COOKIE: Final = "tandem-console"
_CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: under it browsers send "Origin: null" with our own forms, and nothing could be checked. No
    # address leaves for another site under this one either.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_secure(request: Request) -> bool:
    """Whether the request came over TLS, which ends in this process."""
    return request.url.scheme == "https"


def guard(response: Response, request: Request) -> Response:
    """Set the headers that narrow what a page may do. Nothing is kept in caches unless the response says otherwise."""
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    if is_secure(request):
        response.headers["Strict-Transport-Security"] = "max-age=31536000"
    return response


def cookie_of(request: Request) -> str | None:
    """The session cookie of a request, or None."""
    return request.cookies.get(_cookie_name(is_secure(request)))


def set_cookie(response: Response, secure: bool, value: str | None) -> None:
    """Give the browser the session's cookie, or take it away (None).

    Under `__Host-` a browser takes it only over TLS, for this very host, so that no neighbouring domain and no page of
    plain http can plant one.
    """
    response.set_cookie(
        _cookie_name(secure),
        "" if value is None else value,
        max_age=0 if value is None else int(ABSOLUTE_S),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def comes_from_here(request: Request) -> bool:
    """Whether a browser says that one of this server's own pages sent the request.

    Each of Origin and Sec-Fetch-Site must say so where it is present, and one of them must be: every browser of today
    sends one with a POST.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin is None and site is None:
        return False
    here = f"{request.url.scheme}://{request.headers.get('host', '')}".lower()
    return (origin is None or origin.lower() == here) and (site is None or site == "same-origin")


def has_form_token(session: ConsoleSession, form: Mapping[str, str]) -> bool:
    """Whether a form was made for this very session."""
    sent = form.get(FORM_TOKEN, "")
    return hmac.compare_digest(sent.encode("utf-8", "replace"), session.csrf_token.encode())


def _cookie_name(secure: bool) -> str:
    return "__Host-" + _COOKIE if secure else _COOKIE
