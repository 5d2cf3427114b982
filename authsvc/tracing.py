"""Traces for OpenTelemetry, from the notes of finished requests: a span a request, with a span for each of its steps.

Optional (`pip install tandem-auth[otel]`); without the setting `tracing` nothing of it is imported. Where spans go is
told in OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME` and so on), which its library
reads. A `traceparent` of a client's is not followed: it would let strangers choose ids and decide what is sampled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .observation import Exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


class TracingUnavailable(Exception):
    """OpenTelemetry is not installed: install `tandem-auth[otel]`, or leave the setting `tracing` off."""


class Tracer:
    """Makes spans after the fact, with the times that were noted: nothing is slower while a request is served."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tandem.authsvc")
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        self._root, self._server, self._error = Context(), SpanKind.SERVER, StatusCode.ERROR
        self._below = set_span_in_context

    def trace(self, method: str, route: str, status: int, exchange: Exchange, ended: float) -> None:
        """The spans of one request. ended: seconds of `time.perf_counter`."""
        # Noted by a clock that never jumps; spans want Unix time.
        unix = time.time_ns() - round(time.perf_counter() * 1e9)

        def at(noted: float) -> int:
            return unix + round(noted * 1e9)

        attributes: dict[str, Any] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "tandem.request_id": exchange.request_id,
            "tandem.code": exchange.code or "ok",
        }
        if exchange.logins:
            attributes["tandem.login"] = tuple(exchange.logins)
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._root,
            kind=self._server,
            attributes=attributes,
            start_time=at(exchange.started),
        )
        last, below = exchange.started, self._below(span)
        for step, noted in exchange.laps:
            self._tracer.start_span(step, context=below, start_time=at(last)).end(at(noted))
            last = noted
        if status >= 500:
            span.set_status(self._error)
        span.end(at(ended))

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def otlp_tracer() -> Tracer:
    """Spans by OTLP over HTTP to wherever OpenTelemetry's own variables say. TracingUnavailable."""
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingUnavailable("tracing: OpenTelemetry is not installed; install tandem-auth[otel]") from None
    provider = TracerProvider(resource=Resource.create({"service.name": "tandem-authsvc"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracer(provider)
