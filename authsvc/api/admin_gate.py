"""What stands before the admin API: the token first, then its scopes, then bounds on the body, and only then the
framework.

The framework would read a body of any size, and parse it, before it asked who sent it.
"""

from __future__ import annotations

from fastapi.security.utils import get_authorization_scheme_param
from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Refused
from ..places import Places
from ..services.api_tokens import Principal, authenticate_token
from ..services.context import ServiceContext
from .admin_access import GUARDED, listed
from .problems import internal_error, problem_response, response_to
from .request_body import bounded_body

MAX_BODY_BYTES = 16 * 1024


class AdminGate:
    """ASGI: lets requests to `GUARDED` through that bring a bearer token (RFC 6750) with a scope for their route, and
    all others as they are.

    Whose token it is stands in `request.state.principal` from then on. places: one is held while the token is looked
    up, none while the body arrives.
    """

    def __init__(self, app: ASGIApp, ctx: ServiceContext, places: Places, *, body_timeout_s: float) -> None:
        self._app = app
        self._ctx = ctx
        self._places = places
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        # The path as the router will see it, whatever the application is mounted under.
        path = get_route_path(scope) if scope["type"] == "http" else ""
        if not path.startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            principal = await self._authenticated(request)
        except Exception as error:
            await (response_to(error) or internal_error(error))(scope, receive, send)
            return
        if principal is None:
            await problem_response("unauthenticated", {"field": "authorization"})(scope, receive, send)
            return
        refusal = _refusal(principal, request.method, path)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        try:
            body = await bounded_body(request, max_bytes=MAX_BODY_BYTES, timeout_s=self._body_timeout_s)
        except Refused as refused:
            await problem_response(refused.code, refused.extension)(scope, receive, send)
            return
        except ClientDisconnect:
            return  # nobody is there to read an answer
        request.state.principal = principal
        await self._app(scope, _replay(body, receive), _never_stored(send))

    async def _authenticated(self, request: Request) -> Principal | None:
        scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
        if scheme.lower() != "bearer":
            return None
        with self._places.one():
            return await run_in_threadpool(authenticate_token, self._ctx, token)

    def __repr__(self) -> str:
        return "AdminGate()"


def _refusal(principal: Principal, method: str, path: str) -> Response | None:
    """Deny by default: what is not in the table is not there, whatever routes the application has."""
    entry = listed(path)
    if entry is None:
        return problem_response("not_found")
    scopes = entry.by_method.get(method)
    if scopes is None:
        return problem_response("method_not_allowed", headers={"Allow": ", ".join(sorted(entry.by_method))})
    return None if principal.scopes & scopes else problem_response("forbidden")


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _never_stored(send: Send) -> Send:
    """Answers hold one-time codes and people's data: no cache on the way may keep them."""

    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["cache-control"] = "no-store"
        await send(message)

    return marked
