"""HTTPS to the authentication server: one kept-alive connection, bounded in time and size, no surprises.

Built on httpcore, the connection layer of httpx, because it lets the deadline reach the socket
(`deadline.py`), and because it has none of what must not happen here: no redirects, cookies, proxies from
the environment, or decompression.
"""

from __future__ import annotations

import ipaddress
import math
import re
import ssl
import time
import urllib.parse
from dataclasses import dataclass, field
from types import TracebackType
from typing import NoReturn, Protocol

import httpcore

from device_sdk.errors import InsecureTransport, ServerMisbehaved, ServerUnavailable, TransportError
from device_sdk.transport.deadline import DeadlineBackend, timeouts_until
from device_sdk.transport.problem import MAX_PROBLEM_BYTES, PROBLEM_TYPE, ServerProblem, parse_problem
from device_sdk.transport.request_signing import RequestKey, signed_headers

CBOR_TYPE = "application/cbor"
JSON_TYPE = "application/json"
DEFAULT_TIMEOUT_S = 15.0
DEFAULT_MAX_RESPONSE_BYTES = 256 * 1024
_KEEP_ALIVE_S = 60.0
_MAX_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class TransportReply:
    """The body of a 200 answer. bytes_up, bytes_down: sizes of the request and response bodies."""

    body: bytes = field(repr=False)
    bytes_up: int
    bytes_down: int


class Transport(Protocol):
    """How the SDK reaches the server; an app may bring its own (a platform network stack, a tunnel).

    Duties: send the request at most once (no retry: a login index is used only once), give back the body of
    a 200 answer of the right content type, and raise what `HttpTransport` raises for everything else. May
    block; may be called from several threads.
    """

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
        """POST a CBOR body, signed with `key`."""

    def get_json(
        self,
        path: str,
        *,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        timeout_s: float | None = None,
    ) -> TransportReply:
        """GET a JSON document, unsigned."""

    def close(self) -> None:
        """Close all connections."""


class HttpTransport:
    """The SDK's own transport: HTTP/1.1 over TLS 1.2 or later; plain http only to this machine.

    base_url: scheme, host and optional port, nothing else. ca_file: PEM certificates to trust *instead of*
    the system's. timeout_s: the longest a whole call may take, from connecting to the last byte.

    Every call raises `TransportError` (unreachable, certificate not accepted, broken off, too slow),
    `ServerProblem` (the server said no, with a problem document), `ServerUnavailable` (5xx without one) or
    `ServerMisbehaved` with one of the reasons redirected, unexpected_status, wrong_content_type,
    content_encoded, answer_too_large, bad_problem_document or not_http. The constructor raises
    `InsecureTransport`, `ValueError` for another malformed address, and `TransportError` for an unusable
    ca_file.
    """

    def __init__(self, base_url: str, *, ca_file: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        origin = _parse_origin(base_url)
        self._origin = origin
        self._timeout_s = _positive(timeout_s)
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls_context(ca_file) if origin.scheme == "https" else None,
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_S,
            retries=0,
            network_backend=DeadlineBackend(loopback_only=origin.scheme == "http"),
        )

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
        """POST a CBOR body, signed with `key` (`request_signing.py`), and give the CBOR answer undecoded."""
        headers = signed_headers(
            method="POST",
            url=self._origin.url + _checked_path(path),
            content_type=CBOR_TYPE,
            body=body,
            key=key,
            key_id=key_id,
            now_s=time.time(),
        )
        headers["Content-Length"] = str(len(body))
        return self._call("POST", path, headers, body, CBOR_TYPE, max_response_bytes, timeout_s)

    def get_json(
        self,
        path: str,
        *,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        timeout_s: float | None = None,
    ) -> TransportReply:
        """GET a JSON document, unsigned, and give it undecoded."""
        return self._call("GET", _checked_path(path), {}, b"", JSON_TYPE, max_response_bytes, timeout_s)

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> HttpTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"HttpTransport({self._origin.url!r})"

    def _call(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        expected_type: str,
        max_response_bytes: int,
        timeout_s: float | None,
    ) -> TransportReply:
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else _positive(timeout_s))
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=self._origin.scheme, host=self._origin.host, port=self._origin.port, target=path),
            # Host is given so that it is, byte for byte, the authority that was signed.
            headers=[
                ("Host", self._origin.authority),
                ("Accept", f"{expected_type}, {PROBLEM_TYPE}"),
                *headers.items(),
            ],
            content=body,
            extensions=timeouts_until(deadline),
        )
        try:
            response = self._pool.handle_request(request)
            try:
                answer = _take_answer(response, expected_type, max_response_bytes)
            finally:
                response.close()
        except Exception as error:
            _raise_as_ours(error)
        return TransportReply(body=answer, bytes_up=len(body), bytes_down=len(answer))


def _take_answer(response: httpcore.Response, expected_type: str, max_response_bytes: int) -> bytes:
    """The body of a 200 answer; anything else is raised."""
    headers = {name.lower(): value for name, value in response.headers}
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        # None was offered, and inflating is a way to exhaust memory.
        raise ServerMisbehaved("content_encoded")
    received_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1")
    if response.status == 200:
        if received_type != expected_type:
            raise ServerMisbehaved("wrong_content_type")
        return _read_at_most(response, headers, max_response_bytes)
    if 300 <= response.status < 400:
        raise ServerMisbehaved("redirected")
    if response.status >= 400 and received_type == PROBLEM_TYPE:
        document = _read_at_most(response, headers, MAX_PROBLEM_BYTES)
        raise ServerProblem(parse_problem(document, expected_status=response.status))
    if response.status >= 500:
        raise ServerUnavailable
    raise ServerMisbehaved("unexpected_status")


def _read_at_most(response: httpcore.Response, headers: dict[bytes, bytes], limit: int) -> bytes:
    announced = headers.get(b"content-length", b"0")
    if not announced.isdigit() or len(announced) > 18 or int(announced) > limit:
        raise ServerMisbehaved("answer_too_large")
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > limit:
            raise ServerMisbehaved("answer_too_large")
    return bytes(body)


def _raise_as_ours(error: Exception) -> NoReturn:
    """Raise the SDK's fault for one of httpcore's, whose texts may quote what the server sent."""
    # httpcore wraps the socket's own exception as its first argument; the pool then drops the cause.
    inner = error.args[0] if error.args else None
    match error:
        case httpcore.TimeoutException():
            raise TransportError("the server did not answer completely in time; call again") from error
        case httpcore.ConnectError() if isinstance(inner, ssl.SSLCertVerificationError):
            # verify_message: a fixed text of the TLS library, at most with the host name we asked for.
            text = f"the server's certificate was not accepted ({inner.verify_message})"
            raise TransportError(f"{text}; check the address and ca_file") from error
        case httpcore.ConnectError() if isinstance(inner, ssl.SSLError):
            raise TransportError("no TLS connection could be agreed; is it an https address?") from error
        case httpcore.ConnectError():
            raise TransportError("the server could not be reached; check its address and the network") from error
        case httpcore.NetworkError():
            raise TransportError(_BROKE_OFF) from error
        case httpcore.RemoteProtocolError() if str(error).startswith(_CUT_OFF):
            raise TransportError(_BROKE_OFF) from error
        case httpcore.RemoteProtocolError():
            raise ServerMisbehaved("not_http") from None  # the cause quotes what the server sent
        case _:
            raise error


_BROKE_OFF = "the connection broke off before the answer was complete; call again"
# httpcore has one class for a closed connection and for broken HTTP; its text for the former begins so.
_CUT_OFF = ("Server disconnected", "peer closed connection")


@dataclass(frozen=True, slots=True)
class _Origin:
    scheme: str
    host: str  # no brackets
    port: int

    @property
    def authority(self) -> str:
        """As RFC 9421 section 2.2.3 and the Host field have it: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == {"http": 80, "https": 443}[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}"


_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+", re.ASCII)  # no empty or dotted segments, nothing to escape


def _parse_origin(base_url: str) -> _Origin:
    malformed = ValueError("the server address is https://host or https://host:port, with an ASCII host name")
    try:
        parts = urllib.parse.urlsplit(base_url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise malformed from None
    if parts.scheme not in ("http", "https") or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise malformed
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
        if not _HOST_NAME.fullmatch(host):
            raise malformed from None
    if "@" in parts.netloc or "%" in host or port == 0:
        raise malformed
    loopback = host == "localhost" if address is None else address.is_loopback
    if parts.scheme == "http" and not loopback:
        raise InsecureTransport
    return _Origin(scheme=parts.scheme, host=host, port=port or (443 if parts.scheme == "https" else 80))


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    # Not `create_default_context`: that one writes session keys to a file if the environment says so.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain and the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TransportError("ca_file does not exist or holds no PEM certificate; correct it") from error
    return context


def _checked_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError("a request path is made of plain segments, without query or escapes")
    return path


def _positive(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("a timeout is a positive number of seconds")
    return seconds
