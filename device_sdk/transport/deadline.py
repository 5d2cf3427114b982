"""Sockets that obey one deadline for a whole request, instead of a timeout for each read.

A timeout for each read lets a server hold a device for hours by sending a byte now and then, in the headers
as well as in the body. Here the value that travels as httpcore's "timeout" is the *absolute* deadline on
`time.monotonic`'s clock, and each socket operation gets what is left of it. Since the value belongs to the
request, several threads can use one connection pool.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any

import httpcore

_WRITE_BYTES = 64 * 1024  # the deadline is looked at between pieces of this size
_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


def timeouts_until(deadline: float) -> dict[str, dict[str, float]]:
    """The request extension that makes `DeadlineBackend` stop at `deadline` (seconds on `time.monotonic`)."""
    # Waiting for a free connection is httpcore's own doing and takes seconds from now.
    left = max(deadline - time.monotonic(), 0.0)
    return {"timeout": {"connect": deadline, "read": deadline, "write": deadline, "pool": left}}


class DeadlineBackend(httpcore.NetworkBackend):
    """Connects within the deadline.

    loopback_only: refuse addresses of other machines, whatever the resolver says; for plain http. Looking up
    a name is not under the deadline: the operating system has its own limit for that.
    """

    def __init__(self, *, loopback_only: bool) -> None:
        self._loopback_only = loopback_only
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError("name not found") from error
        addresses = [str(entry[4][0]) for entry in found]
        if self._loopback_only:
            addresses = [address for address in addresses if ipaddress.ip_address(address).is_loopback]
        failure: Exception = httpcore.ConnectError("no usable address")
        for tried, address in enumerate(addresses):
            # An equal part for each address left, so that a dead first one does not use up everything.
            share = _left(timeout) / (len(addresses) - tried)
            try:
                stream = self._sockets.connect_tcp(
                    address, port, timeout=share, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream)
        raise failure


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout=_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_BYTES):
            self._stream.write(buffer[start : start + _WRITE_BYTES], timeout=_left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        # Python counts the time of a whole handshake against the socket's timeout, not of each read in it.
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout=_left(timeout)))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float | None) -> float:
    if deadline is None:
        raise ValueError("every request carries a deadline")
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left
