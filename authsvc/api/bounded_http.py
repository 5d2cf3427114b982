"""HTTP/1.1 with a bound on everything of a request that is not its body.

The fast parser (httptools) keeps header lines, and the trailers of a chunked body, as long as they come, and nobody has
been authenticated by then.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """Hangs up on a request that has more than `MAX_HEAD_BYTES` of head, chunk framing and trailers. Drops trailers."""

    _around_body_bytes = 0
    _body_bytes = 0
    _in_head = False

    def on_message_begin(self) -> None:
        self._in_head, self._around_body_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer would be merged into the headers that the application reads.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def data_received(self, data: bytes) -> None:
        self._body_bytes = 0
        super().data_received(data)
        self._around_body_bytes += len(data) - self._body_bytes
        if self._around_body_bytes > MAX_HEAD_BYTES:
            self.transport.close()
