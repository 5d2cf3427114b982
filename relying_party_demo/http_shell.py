"""Around every request: one address only, and headers that narrow what a page may do."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relying_party_demo.errors import WrongHost
from relying_party_demo.settings import RelyingPartySettings

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


CAMERA_PATH = "/phone/camera"
"""The only page that may ask for a camera."""


class HttpShell:
    """ASGI middleware.

    A request under another host name (127.0.0.1, say, where WebAuthn does not work, or a name that an attacker
    points here) is led to the right one or refused. `/healthz` answers under every name, for probes.
    """

    def __init__(self, app: ASGIApp, settings: RelyingPartySettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                narrow(MutableHeaders(scope=message), scope["path"], self._settings)
            await send(message)

        host = Headers(scope=scope).get("host", "").lower()
        if host == self._settings.netloc or scope["path"] == "/healthz":
            await self._app(scope, receive, send_with_headers)
        else:
            await self._elsewhere(scope)(scope, receive, send_with_headers)

    def _elsewhere(self, scope: Scope) -> Response:
        if scope["method"] in ("GET", "HEAD"):
            # raw_path is as sent, percent-escapes and all; it starts with a slash behind our own origin.
            path = (scope.get("raw_path") or b"/").decode("ascii", "replace").split("?")[0]
            return RedirectResponse(self._settings.origin + "/" + path.lstrip("/"), status_code=307)
        problem = WrongHost()
        return JSONResponse(problem.problem(), status_code=problem.status, media_type="application/problem+json")


def narrow(headers: MutableHeaders, path: str, settings: RelyingPartySettings) -> None:
    """Set the headers that narrow what a page may do, and keep all but static files out of caches."""
    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    # Not no-referrer: under it browsers send "Origin: null" with our own forms.
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    camera = "(self)" if path == CAMERA_PATH else "()"
    headers["Permissions-Policy"] = (
        f"publickey-credentials-get=(self), publickey-credentials-create=(self), camera={camera}, "
        "microphone=(), geolocation=()"
    )
    headers["Cache-Control"] = "no-cache" if path.startswith("/static/") else "no-store"
    if settings.secure:
        headers["Strict-Transport-Security"] = "max-age=31536000"
