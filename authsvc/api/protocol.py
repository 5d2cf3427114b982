"""The protocol's addresses: a signed CBOR body in, one use case in a worker thread, a CBOR body out.

The body is one opaque byte string here, and only the codec of `mpc` takes it apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mpc.login.messages import message_1_max_bytes

from ..errors import Refused
from ..metrics import QUEUED
from ..observation import carried, current
from ..places import Places
from ..services import (
    confirmation,
    credentials,
    enrolment,
    history,
    login,
    provisioned_keys,
    recovery,
    template_changes,
    template_rotation,
)
from ..services.context import ServiceContext, SignedRequest
from .problems import internal_error, problem_response, response_to
from .request_body import bounded_body

CBOR = "application/cbor"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_SMALL = 16 * 1024
_BASE_OT = 128 * 1024

UseCase = Callable[[ServiceContext, SignedRequest], bytes]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address: what it calls, and the largest body it reads, in bytes."""

    path: str
    use_case: UseCase
    max_body_bytes: int


def protocol_endpoints(ctx: ServiceContext) -> Sequence[Endpoint]:
    """The protocol's addresses under this policy."""
    # Which profile a login is for is known only after parsing; until then the largest one served is the
    # bound.
    profiles = [profile.with_templates(profile.max_templates) for profile in ctx.policy.profiles.values()]
    largest_login = max(message_1_max_bytes(profile) for profile in profiles)
    return (
        Endpoint("/v1/enrolments", enrolment.start, _SMALL),
        Endpoint("/v1/enrolments/finish", enrolment.finish, _BASE_OT),
        Endpoint("/v1/credentials", credentials.add, _SMALL),
        Endpoint("/v1/credentials/revoke", credentials.revoke, _SMALL),
        Endpoint("/v1/credentials/pair", provisioned_keys.pair, _SMALL),
        Endpoint("/v1/credentials/adopt", provisioned_keys.adopt, _SMALL),
        Endpoint("/v1/logins", login.login, largest_login),
        Endpoint("/v1/confirmations", confirmation.confirm, _SMALL),
        Endpoint("/v1/recoveries", recovery.start, _SMALL),
        Endpoint("/v1/recoveries/finish", recovery.finish, _BASE_OT),
        Endpoint("/v1/history", history.read_history, _SMALL),
        Endpoint("/v1/rotations", template_rotation.start, _SMALL),
        Endpoint("/v1/rotations/finish", template_rotation.finish, _BASE_OT),
        Endpoint("/v1/rotations/settle", template_rotation.settle, _SMALL),
        Endpoint("/v1/templates/add", template_changes.add, _SMALL),
        Endpoint("/v1/templates/remove", template_changes.remove, _SMALL),
    )


class ProtocolRoutes:
    """ASGI: answers the protocol's addresses and passes everything else on.

    It stands before the framework's own routing and validation, of which an opaque signed body needs nothing, and it
    answers every error itself. workers: where the use cases run. max_queued: requests that have a worker or wait for
    one. body_timeout_s: how long a body may take to arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        ctx: ServiceContext,
        endpoints: Sequence[Endpoint],
        workers: ThreadPoolExecutor,
        *,
        max_queued: int,
        body_timeout_s: float,
    ) -> None:
        self._app = app
        self._ctx = ctx
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self._workers = workers
        self._places = Places(max_queued)
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = endpoint  # as the framework's router does, for whoever tells the request later
        response = await self._answer(endpoint, Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        if request.method != "POST":
            return problem_response("method_not_allowed", headers={"Allow": "POST"})
        try:
            self._places.check()  # before a byte of the body is waited for
            signed = await _signed_request(request, endpoint.max_body_bytes, self._body_timeout_s)
            with self._places.one():
                loop = asyncio.get_running_loop()
                use_case = carried(endpoint.use_case, QUEUED.inc)
                content = await loop.run_in_executor(self._workers, use_case, self._ctx, signed)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except Exception as error:
            return response_to(error) or internal_error(error)
        return Response(content, 200, {"Cache-Control": "no-store"}, CBOR)


async def _signed_request(request: Request, max_body_bytes: int, timeout_s: float) -> SignedRequest:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers.get("content-type") != CBOR or "content-encoding" in headers:
        raise Refused("unsupported_media_type", expected=CBOR)
    announced = headers.get("content-length")
    if announced is not None:
        if not (announced.isascii() and announced.isdigit() and len(announced) <= 18):
            raise Refused("malformed", field="content-length")
        if int(announced) > max_body_bytes:
            raise Refused("too_large", max_bytes=max_body_bytes)
    authority = headers.get("host", "").lower().removesuffix(_DEFAULT_PORTS.get(request.scope["scheme"], "\n"))
    # The path as sent: what was signed is the encoded form.
    path = (request.scope.get("raw_path") or b"").decode("latin-1").partition("?")[0] or request.scope["path"]
    body = await bounded_body(request, max_bytes=max_body_bytes, timeout_s=timeout_s)
    exchange = current()
    return SignedRequest(request.method, authority, path, headers, body, exchange.address if exchange else None)
