"""What stands before the admin API: the token first, then a bound on the body, and only then the framework.

The framework would read a body of any size, and parse it, before it asked who sent it.
"""

from __future__ import annotations

import hashlib
import hmac

from fastapi.security.utils import get_authorization_scheme_param
from starlette._utils import get_route_path
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem_response

PREFIX = "/v1/admin"
GUARDED = (PREFIX, "/metrics")
"""What begins like this is behind the token."""
MAX_BODY_BYTES = 16 * 1024


class AdminGate:
    """ASGI: lets requests to `GUARDED` through with the bearer token (RFC 6750), and all others as they are."""

    def __init__(self, app: ASGIApp, admin_token: str) -> None:
        self._app = app
        self._expected = _digest(admin_token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        # The path as the router will see it, whatever the application is mounted under.
        if scope["type"] != "http" or not get_route_path(scope).startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if not self._authorised(request):
            await problem_response("unauthenticated", {"field": "authorization"})(scope, receive, send)
            return
        body = await _bounded_body(request)
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _authorised(self, request: Request) -> bool:
        scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
        # Digests are compared, so that neither the token's content nor its length shows in the time taken.
        return hmac.compare_digest(_digest(token), self._expected) and scheme.lower() == "bearer"

    def __repr__(self) -> str:
        return "AdminGate()"


async def _bounded_body(request: Request) -> bytes | Response:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return problem_response("too_large", {"max_bytes": MAX_BODY_BYTES})
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
