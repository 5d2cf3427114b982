"""Around every request: one address, two kinds of callers, and nothing for anybody else.

    /v1/…            POST, with the pinned extension's Origin
    everything else  the consent window's own navigation and requests (Sec-Fetch-Site none or same-origin)

There are no CORS headers, so no page reads an answer. Whatever does not belong here gets one and the same empty 403,
so that a page that tries learns nothing about jobs or addresses.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)


class HttpGuard:
    """ASGI middleware.

    `host` is the only value of the Host header: a name that somebody points to this machine (DNS rebinding) is none.
    """

    def __init__(self, app: ASGIApp, *, host: str, extension_origin: str, camera: bool) -> None:
        self._app = app
        self._host = host.encode("ascii")
        self._own_origin = b"http://" + self._host
        self._extension_origin = extension_origin.encode("ascii")
        self._camera = camera

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._narrow(MutableHeaders(scope=message))
            await send(message)

        # A WebSocket is no request of anybody's; Starlette's answer to one before its acceptance is a 403.
        if scope["type"] != "http" or not self._belongs_here(scope):
            # Closed, so that a page does not keep connections that it may not use.
            await Response(status_code=403, headers={"Connection": "close"})(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _belongs_here(self, scope: Scope) -> bool:
        headers = scope["headers"]
        if _all(headers, b"host") != [self._host]:
            return False
        origins = _all(headers, b"origin")
        if scope["path"].startswith("/v1/"):
            return bool(scope["method"] == "POST") and origins == [self._extension_origin]
        sites = _all(headers, b"sec-fetch-site")
        if scope["method"] == "POST":
            return origins == [self._own_origin] and sites == [b"same-origin"]
        return scope["method"] == "GET" and sites in ([b"none"], [b"same-origin"])

    def _narrow(self, headers: MutableHeaders) -> None:
        headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        headers["X-Frame-Options"] = "DENY"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        # No Cross-Origin-Opener-Policy: the extension opens the window, so it has no opener; a page that opens it gets
        # a 403. Chromium would start a second process for it, which the person waits for.
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Permissions-Policy"] = f"camera=({'self' if self._camera else ''}), microphone=(), geolocation=()"
        headers["Cache-Control"] = "no-store"


def _all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for known, value in headers if known == name]
