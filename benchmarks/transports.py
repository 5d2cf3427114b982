"""Transports for measuring: one that counts and holds back confirmations, one without a network."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping

from authsvc.api.protocol import protocol_endpoints
from authsvc.services.context import ServiceContext, SignedRequest
from benchmarks.stopwatch import REST, Stopwatch
from device_sdk import Transport
from device_sdk.transport import RequestKey, TransportReply
from device_sdk.transport.https import CBOR_TYPE, DEFAULT_MAX_RESPONSE_BYTES
from device_sdk.transport.request_signing import signed_headers

CONFIRMATIONS = "/v1/confirmations"


class GatedTransport:
    """Another transport, with a gate for confirmations: so that a login and its confirmation are measured apart."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self._gate = threading.Event()
        self._gate.set()
        self.confirmations = 0
        self.confirmation_bytes = (0, 0)

    def hold_confirmations(self) -> None:
        self._gate.clear()

    def let_confirmations_through(self) -> None:
        self._gate.set()

    def post_cbor(
        self,
        path: str,
        body: bytes,
        key: RequestKey,
        key_id: str,
        *,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        timeout_s: float | None = None,
    ) -> TransportReply:
        if path == CONFIRMATIONS:
            self._gate.wait()
        reply = self._inner.post_cbor(
            path, body, key, key_id, max_response_bytes=max_response_bytes, timeout_s=timeout_s
        )
        if path == CONFIRMATIONS:
            self.confirmations += 1
            self.confirmation_bytes = (reply.bytes_up, reply.bytes_down)
        return reply

    def get_json(
        self, path: str, *, max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES, timeout_s: float | None = None
    ) -> TransportReply:
        return self._inner.get_json(path, max_response_bytes=max_response_bytes, timeout_s=timeout_s)

    def close(self) -> None:
        self._gate.set()
        self._inner.close()


class InProcessTransport:
    """The server's use cases called directly: signed and authenticated as ever, but no HTTP.

    `watch`: each use case is a whole of its own, named by its path.
    """

    _AUTHORITY = "127.0.0.1"

    def __init__(self, context: ServiceContext, watch: Stopwatch) -> None:
        self._context = context
        self._use_cases: Mapping[str, Callable[..., bytes]] = {
            endpoint.path: watch.wrapped(REST, endpoint.use_case, whole=endpoint.path)
            for endpoint in protocol_endpoints(context)
        }

    def post_cbor(
        self,
        path: str,
        body: bytes,
        key: RequestKey,
        key_id: str,
        *,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        timeout_s: float | None = None,
    ) -> TransportReply:
        headers = self.sign(path, body, key, key_id)
        answer = self._use_cases[path](self._context, SignedRequest("POST", self._AUTHORITY, path, headers, body))
        return TransportReply(body=answer, bytes_up=len(body), bytes_down=len(answer))

    def get_json(
        self, path: str, *, max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES, timeout_s: float | None = None
    ) -> TransportReply:
        profile = self._context.policy.profiles[path.rpartition("/")[2]]
        body = json.dumps(profile.as_dict()).encode()
        return TransportReply(body=body, bytes_up=0, bytes_down=len(body))

    def sign(self, path: str, body: bytes, key: RequestKey, key_id: str) -> dict[str, str]:
        """The request's headers, names in lower case."""
        headers = signed_headers(
            method="POST",
            url=f"http://{self._AUTHORITY}{path}",
            content_type=CBOR_TYPE,
            body=body,
            key=key,
            key_id=key_id,
            now_s=time.time(),
        )
        return {name.lower(): value for name, value in headers.items()}

    def close(self) -> None:
        """Nothing is open."""
