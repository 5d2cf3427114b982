"""HTTP/1.1 with a bound on everything that a connection can hold: connections, heads, and the time of each step.

Nobody has been authenticated by then. The fast parser (httptools) keeps header lines, and the trailers of a chunked
body, as long as they come, and uvicorn has no time limit but for an idle connection that was answered before.

| step | bound |
|---|---|
| a connection | `max_connections` are served; twice as many are told so; others are hung up on |
| from the connection, or the first byte after a request, to a complete head | `head_timeout_s` |
| from the head to the end of the body | `body_timeout_s`, which the application answers with 408, and some seconds |
| from the answer to its last byte in the kernel's hands | `body_timeout_s` |
| head, chunk framing and trailers | `MAX_HEAD_BYTES` |
| requests on a connection | one that is answered and one that waits for that; with a third 400, and the end |
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .problems import problem_response

MAX_HEAD_BYTES = 32 * 1024
_TIME_TO_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class HttpBounds:
    """What the table above names. Times in seconds."""

    max_connections: int
    head_timeout_s: float
    body_timeout_s: float


class _PipelineFull(Exception):
    """Makes the parser stop."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Hangs up on a connection that exceeds a bound. Drops trailers."""

    _around_body_bytes = 0
    _body_bytes = 0
    _in_head = False
    _in_message = False
    _is_one_too_many = False
    _answers = 0
    _reading: TimerHandle | None = None
    _writing: TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        bounds: HttpBounds,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds

    # ---- connections ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Judged once, so that those who came in time are served whoever else knocks.
        self._is_one_too_many = len(self.connections) > self._bounds.max_connections
        if len(self.connections) > 2 * self._bounds.max_connections:
            transport.abort()
        else:
            self._must_read_within(self._bounds.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_been_read()
        if self._writing is not None:
            self._writing.cancel()
        super().connection_lost(exc)

    # ---- heads and bodies ----

    def on_message_begin(self) -> None:
        self._in_head, self._in_message, self._around_body_bytes = True, True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer would be merged into the headers that the application reads.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.pipeline:
            # uvicorn queues every request of a segment that it has read, and each costs some thirty times its bytes.
            # The parser hands the exception on as one of its own, which is answered like any other.
            raise _PipelineFull
        self._in_head = False
        self._must_read_within(self._bounds.body_timeout_s + _TIME_TO_ANSWER_S)
        if self._is_one_too_many:
            self.app = _unavailable
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._has_been_read()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._body_bytes = 0
        if not self._in_message and self._reading is None:
            # The first byte of the next request. uvicorn's own time limit for idle connections ends here.
            self._must_read_within(self._bounds.head_timeout_s)
        super().data_received(data)
        if self._in_head and self._reading is None:
            self._must_read_within(self._bounds.head_timeout_s)
        self._around_body_bytes += len(data) - self._body_bytes
        if self._around_body_bytes > MAX_HEAD_BYTES:
            self.transport.close()

    def _must_read_within(self, seconds: float) -> None:
        self._has_been_read()
        self._reading = self.loop.call_later(seconds, self._too_slow)

    def _has_been_read(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _too_slow(self) -> None:
        self._reading = None
        if self.cycle is not None and not self.cycle.response_complete and (self._in_head or not self._in_message):
            # The request before this one is still being answered: it does not pay for this one.
            self.cycle.keep_alive = False
            return
        self.transport.close()
        self._watch_writing()

    # ---- answers ----

    def on_response_complete(self) -> None:
        self._answers += 1
        self._watch_writing()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def _watch_writing(self) -> None:
        if self._writing is None and self.transport.get_write_buffer_size():
            self._writing = self.loop.call_later(self._bounds.body_timeout_s, self._not_taken, self._answers)

    def _not_taken(self, answers: int) -> None:
        self._writing = None
        if self._answers == answers or self.transport.is_closing():
            if self.transport.get_write_buffer_size():
                self.transport.abort()  # closing would wait for the other side
        else:
            self._watch_writing()  # what waits now may be a later answer's


async def _unavailable(scope: Scope, receive: Receive, send: Send) -> None:
    await problem_response("unavailable", headers={"Connection": "close"})(scope, receive, send)
