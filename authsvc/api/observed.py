"""Around every request: an id, one line in the log, the metrics, and a trace where that is switched on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import metrics
from ..observation import Exchange, begin
from ..tracing import Tracer
from .client_address import Network, came_over_tls, client_address

REQUEST_ID_HEADER = b"x-request-id"
UNMATCHED = "unmatched"
"""The route of a request that was answered before any route was looked for, or that none fits."""
PROBES = ("/healthz", "/readyz", "/metrics")
"""Asked every few seconds by machines: their good answers are told at the level debug only."""
_METHODS = frozenset({"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"})
_log = structlog.get_logger()


class ObservedRequests:
    """ASGI, outermost. tracer: gets every finished request, or None."""

    def __init__(
        self, app: ASGIApp, trusted_proxies: Sequence[Network], log_addresses: bool, tracer: Tracer | None
    ) -> None:
        self._app = app
        self._trusted = tuple(trusted_proxies)
        self._log_addresses = log_addresses
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(secrets.token_hex(8), client_address(scope, self._trusted))  # type: ignore[arg-type]
        begin(exchange)
        if came_over_tls(scope, self._trusted):  # type: ignore[arg-type]
            # For cookies, and for the default port in what a device signed.
            scope["scheme"] = "https"
        status = bytes_in = bytes_out = 0

        async def counted_receive() -> Message:
            nonlocal bytes_in
            message = await receive()
            bytes_in += len(message.get("body", b""))
            return message

        async def marked_send(message: Message) -> None:
            nonlocal status, bytes_out
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, exchange.request_id.encode())]
            else:
                bytes_out += len(message.get("body", b""))
            await send(message)

        metrics.IN_PROGRESS.inc()
        try:
            await self._app(scope, counted_receive, marked_send)
        finally:
            metrics.IN_PROGRESS.dec()
            ended = time.perf_counter()
            # The template, never the address as sent: ids and whatever else a client chose stand in that.
            route = getattr(scope.get("route"), "path", UNMATCHED)
            metrics.count(route, exchange, status, ended)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            shown = {"address": exchange.address} if self._log_addresses else {}
            (_log.debug if route in PROBES and status < 400 else _log.info)(
                "request",
                method=method,
                route=route,
                status=status,
                code=metrics.outcome_of(exchange, status),
                ms=round(1000 * (ended - exchange.started), 1),
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                **shown,
            )
            if self._tracer is not None:
                self._tracer.trace(method, route, status, exchange, ended)
