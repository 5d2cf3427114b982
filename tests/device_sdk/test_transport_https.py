"""The transport against real sockets: an honest server, servers that misbehave, and wires that break."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256

from device_sdk.errors import (
    Advice,
    InsecureTransport,
    ServerMisbehaved,
    ServerUnavailable,
    TransportError,
)
from device_sdk.transport import HttpTransport, RequestKey, ServerProblem, Transport, signing_key_id

KEY = RequestKey.generate()
KEY_ID = signing_key_id(enrolment_id=bytes(16))
BODY = b"\xa1\x61v\x01" * 9000


# ---- an honest server --------------------------------------------------------------------------------------


class HonestServer:
    """Uvicorn in a thread. Keeps what it received; answers POST with the body reversed."""

    def __init__(self, **options: Any) -> None:
        self.requests: list[dict[str, Any]] = []
        self.clients: set[tuple[str, int]] = set()
        config = uvicorn.Config(
            self._app,
            host="127.0.0.1",
            port=0,
            interface="asgi3",
            log_level="error",
            lifespan="off",
            **options,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._scheme = "https" if options else "http"

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append({"method": scope["method"], "path": scope["path"], "headers": headers, "body": body})
        self.clients.add(tuple(scope["client"]))
        status, kind, answer = 200, "application/cbor", body[::-1]
        if scope["method"] == "GET":
            kind, answer = "application/json", b'{"status": "ok"}'
        elif scope["path"] == "/v1/confirmations":
            status, kind = 409, "application/problem+json"
            answer = json.dumps({"code": "stale_index", "status": 409, "last_index": 2**64 - 1}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]})
        await send({"type": "http.response.body", "body": answer})

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    def __enter__(self) -> HonestServer:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def honest() -> Iterator[HonestServer]:
    with HonestServer() as server:
        yield server


def test_a_post_arrives_signed_and_its_answer_comes_back_counted(honest: HonestServer) -> None:
    with HttpTransport(honest.url) as transport:
        reply = transport.post_cbor("/v1/logins", BODY, KEY, KEY_ID)

    assert reply.body == BODY[::-1]
    assert (reply.bytes_up, reply.bytes_down) == (len(BODY), len(BODY))
    (request,) = honest.requests
    assert (request["method"], request["path"], request["body"]) == ("POST", "/v1/logins", BODY)
    _verify_as_received(request, honest)


def _verify_as_received(request: dict[str, Any], server: HonestServer) -> None:
    """From what the server saw, with the authority taken from the Host field it received."""

    class Message:
        method = request["method"]
        url = f"http://{request['headers']['host']}{request['path']}"
        headers = request["headers"]

    assert Message.headers["host"] == f"127.0.0.1:{server.port}"
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), KEY.public_point())
    verifier = HTTPMessageVerifier(
        signature_algorithm=ECDSA_P256_SHA256,
        key_resolver=MappingKeyResolver(public_keys={KEY_ID: public}, private_keys={}),
    )
    (result,) = verifier.verify(
        Message(), expect_tag="tandem-v1", max_age=datetime.timedelta(seconds=60), body=request["body"]
    )
    assert list(result.covered_components) == [
        '"@method"',
        '"@authority"',
        '"@path"',
        '"content-type"',
        '"content-digest"',
        '"@signature-params"',
    ]


def test_calls_share_one_connection_and_several_threads_may_call(honest: HonestServer) -> None:
    failures: list[BaseException] = []

    def call(transport: HttpTransport, number: int) -> None:
        try:
            for _ in range(5):
                body = bytes([number]) * 100
                assert transport.post_cbor("/v1/logins", body, KEY, KEY_ID).body == body
        except BaseException as error:
            failures.append(error)

    with HttpTransport(honest.url) as transport:
        for _ in range(10):
            transport.post_cbor("/v1/logins", BODY, KEY, KEY_ID)
        assert len(honest.clients) == 1
        threads = [threading.Thread(target=call, args=(transport, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []
    assert len(honest.requests) == 50


def test_get_json_is_unsigned_and_gives_the_document(honest: HonestServer) -> None:
    with HttpTransport(honest.url) as transport:
        reply = transport.get_json("/v1/profiles/sim-2048")

    assert json.loads(reply.body) == {"status": "ok"}
    assert (reply.bytes_up, reply.bytes_down) == (0, len(reply.body))
    assert "signature" not in honest.requests[0]["headers"]


def test_a_problem_document_becomes_a_typed_fault(honest: HonestServer) -> None:
    with HttpTransport(honest.url) as transport, pytest.raises(ServerProblem) as caught:
        transport.post_cbor("/v1/confirmations", b"\xa0", KEY, KEY_ID)

    assert caught.value.code == "stale_index"
    assert caught.value.problem.status == 409
    assert caught.value.problem.last_index == 2**64 - 1
    assert caught.value.problem.epoch is None
    assert caught.value.advice is Advice.STOP


def test_a_proxy_in_the_environment_is_ignored(honest: HonestServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an app is not the SDK's configuration, and a proxy would see who logs in where."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    with HttpTransport(honest.url) as transport:
        assert transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID).body == b"\xa0"


def test_an_answer_above_the_callers_limit_is_refused_and_at_the_limit_accepted(honest: HonestServer) -> None:
    with HttpTransport(honest.url) as transport:
        reply = transport.post_cbor("/v1/logins", BODY, KEY, KEY_ID, max_response_bytes=len(BODY))
        with pytest.raises(ServerMisbehaved) as caught:
            transport.post_cbor("/v1/logins", BODY, KEY, KEY_ID, max_response_bytes=len(BODY) - 1)

    assert reply.bytes_down == len(BODY)
    assert caught.value.reason == "answer_too_large"


def test_after_a_fault_the_next_call_works(honest: HonestServer) -> None:
    with HttpTransport(honest.url) as transport:
        for _ in range(6):  # more than there are connections: none may be lost
            with pytest.raises(ServerMisbehaved):
                transport.post_cbor("/v1/logins", BODY, KEY, KEY_ID, max_response_bytes=10)
        assert transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID).body == b"\xa0"


def test_a_connection_the_server_closed_meanwhile_is_replaced() -> None:
    """Logins are hours apart; the kept connection is usually gone by then."""
    with HonestServer() as first:
        transport = HttpTransport(first.url)
        transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID)
        port = first.port
    with RawServer(_answer(b"\xa1"), port=port), transport:
        assert transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID).body == b"\xa1"


# ---- TLS ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Self-signed: `right` and `other` for 127.0.0.1, `named` for another name, `old` expired."""
    folder = tmp_path_factory.mktemp("certificates")
    for name, subject, age in [
        ("right", x509.IPAddress(ipaddress.ip_address("127.0.0.1")), 0),
        ("other", x509.IPAddress(ipaddress.ip_address("127.0.0.1")), 0),
        ("named", x509.DNSName("auth.example"), 0),
        ("old", x509.IPAddress(ipaddress.ip_address("127.0.0.1")), 30),
    ]:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} test certificate")])
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(issuer)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectAlternativeName([subject]), critical=False)
            .sign(key, SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(private)
    return folder


def _tls_server(certificates: Path, name: str) -> HonestServer:
    return HonestServer(ssl_certfile=str(certificates / f"{name}.pem"), ssl_keyfile=str(certificates / f"{name}.key"))


def test_the_right_certificate_authority_is_accepted(certificates: Path) -> None:
    with (
        _tls_server(certificates, "right") as server,
        HttpTransport(server.url, ca_file=str(certificates / "right.pem")) as transport,
    ):
        assert transport.post_cbor("/v1/logins", b"\xa1", KEY, KEY_ID).body == b"\xa1"
        assert transport.get_json("/healthz").body == b'{"status": "ok"}'
        assert len(server.clients) == 1


@pytest.mark.parametrize(
    ("served", "trusted", "text"),
    [
        ("right", None, "self-signed"),
        ("right", "other", "certificate was not accepted"),
        ("named", "named", "certificate was not accepted"),
        ("old", "old", "expired"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused_before_anything_is_sent(
    certificates: Path, served: str, trusted: str | None, text: str
) -> None:
    ca_file = None if trusted is None else str(certificates / f"{trusted}.pem")

    with (
        _tls_server(certificates, served) as server,
        HttpTransport(server.url, ca_file=ca_file) as transport,
        pytest.raises(TransportError, match=text),
    ):
        transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID)

    assert server.requests == []


def test_https_to_a_plain_http_server_says_it_is_not_tls(honest: HonestServer, certificates: Path) -> None:
    url = honest.url.replace("http:", "https:")

    with (
        HttpTransport(url, ca_file=str(certificates / "right.pem")) as transport,
        pytest.raises(TransportError, match="no TLS connection"),
    ):
        transport.get_json("/healthz")


def test_an_old_tls_version_is_refused(certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "right.pem", certificates / "right.key")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    def shake_hands(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with (
        RawServer(shake_hands, read_request=False) as server,
        HttpTransport(f"https://127.0.0.1:{server.port}", ca_file=str(certificates / "right.pem")) as transport,
        pytest.raises(TransportError, match="no TLS connection"),
    ):
        transport.get_json("/healthz")


def test_session_keys_are_not_written_where_the_environment_says(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    with (
        _tls_server(certificates, "right") as server,
        HttpTransport(server.url, ca_file=str(certificates / "right.pem")) as transport,
    ):
        transport.get_json("/healthz")

    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_an_unusable_ca_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(TransportError, match="ca_file"):
        HttpTransport("https://auth.example", ca_file=str(path))


# ---- servers that misbehave --------------------------------------------------------------------------------


class RawServer:
    """Accepts connections, reads one request, then does what the test says with the socket."""

    def __init__(self, act: Callable[[socket.socket], None], *, port: int = 0, read_request: bool = True) -> None:
        self._act = act
        self._read_request = read_request
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.accepted = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection, contextlib.suppress(OSError):
                if self._read_request:
                    _read_request(connection)
                self._act(connection)

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def _read_request(connection: socket.socket) -> None:
    with connection.makefile("rb") as file:
        length = 0
        while (line := file.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        file.read(length)


def _answer(
    body: bytes = b"\xa0", *, status: str = "200 OK", kind: str = "application/cbor", extra: str = ""
) -> Callable[[socket.socket], None]:
    def act(connection: socket.socket) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        connection.sendall(head.encode() + body)

    return act


def _post(server: RawServer, *, timeout_s: float = 10.0) -> bytes:
    with HttpTransport(server.url, timeout_s=timeout_s) as transport:
        return transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID).body


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_not_followed(status: int) -> None:
    """A signed login must not be carried to a host the vault does not name."""
    with RawServer(_answer()) as elsewhere:
        location = f"Location: {elsewhere.url}/v1/logins\r\n"
        with (
            RawServer(_answer(status=f"{status} Moved", extra=location)) as server,
            pytest.raises(ServerMisbehaved) as caught,
        ):
            _post(server)
        assert elsewhere.accepted == 0

    assert caught.value.reason == "redirected"


_CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nTransfer-Encoding: chunked\r\n\r\n"


def _send_chunks(connection: socket.socket, total: int, piece: int) -> None:
    connection.sendall(_CHUNKED)
    for _ in range(total // piece):
        connection.sendall(b"%x\r\n" % piece + bytes(piece) + b"\r\n")
    connection.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("announced", [True, False])
def test_an_answer_of_ten_megabytes_is_refused_while_it_streams(announced: bool) -> None:
    size = 10 * 1024 * 1024
    act = _answer(bytes(size)) if announced else lambda connection: _send_chunks(connection, size, 4096)

    with RawServer(act) as server, pytest.raises(ServerMisbehaved) as caught:
        _post(server)

    assert caught.value.reason == "answer_too_large"


def test_an_endless_problem_document_is_refused() -> None:
    size = 17 * 1024
    problem = _answer(b" " * size, status="403 Forbidden", kind="application/problem+json")

    with RawServer(problem) as server, pytest.raises(ServerMisbehaved) as caught:
        _post(server)

    assert caught.value.reason == "answer_too_large"


# Each of these ends by itself after some seconds: without the deadline the test would fail rather than hang.
def _slow_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 100\r\n\r\n")
    for _ in range(100):
        time.sleep(0.05)
        connection.sendall(b"\x00")


def _slow_chunk_size(connection: socket.socket) -> None:
    connection.sendall(_CHUNKED + b"1;")
    for _ in range(100):
        time.sleep(0.05)
        connection.sendall(b"x")
    connection.sendall(b"\r\n\xa0\r\n0\r\n\r\n")


def _slow_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 1\r\nX-Slow: ")
    for _ in range(100):
        time.sleep(0.05)
        connection.sendall(b"x")
    connection.sendall(b"\r\n\r\n\xa0")


def _interim_answers(connection: socket.socket) -> None:
    for _ in range(100):
        time.sleep(0.05)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    _answer()(connection)


def _silence(connection: socket.socket) -> None:
    connection.settimeout(5)
    connection.recv(1)  # returns when the other side gives up; otherwise the connection is dropped


def _do_not_read(connection: socket.socket) -> None:
    time.sleep(2)


@pytest.mark.parametrize(
    "act",
    [_slow_body, _slow_chunk_size, _slow_headers, _interim_answers, _silence],
    ids=lambda act: act.__name__,
)
def test_an_answer_that_does_not_end_is_given_up_at_the_deadline(
    act: Callable[[socket.socket], None],
) -> None:
    """Bytes that trickle in do not extend it, wherever in the answer they are."""
    with RawServer(act) as server, pytest.raises(TransportError, match="in time") as caught:
        _post(server, timeout_s=0.4)

    assert caught.value.advice is Advice.RETRY


def test_a_request_the_server_does_not_read_is_given_up_at_the_deadline() -> None:
    with (
        RawServer(_do_not_read, read_request=False) as server,
        HttpTransport(server.url, timeout_s=0.4) as transport,
        pytest.raises(TransportError, match="in time"),
    ):
        transport.post_cbor("/v1/logins", bytes(20_000_000), KEY, KEY_ID)


def test_a_tls_handshake_that_does_not_end_is_given_up_at_the_deadline() -> None:
    with (
        RawServer(_do_not_read, read_request=False) as server,
        HttpTransport(f"https://127.0.0.1:{server.port}", timeout_s=0.4) as transport,
        pytest.raises(TransportError, match="in time"),
    ):
        transport.get_json("/healthz")


def test_a_call_can_have_its_own_deadline() -> None:
    with (
        RawServer(_silence) as server,
        HttpTransport(server.url) as transport,
        pytest.raises(TransportError, match="in time"),
    ):
        transport.get_json("/healthz", timeout_s=0.3)


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Ty",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/cbor\r\nContent-Length: 100\r\n\r\n" + bytes(99),
        _CHUNKED + b"10\r\n" + bytes(5),
        _CHUNKED + b"1\r\n\xa0\r\n",
    ],
)
@pytest.mark.parametrize("abruptly", [True, False])
def test_a_connection_that_breaks_off_never_gives_half_an_answer(part: bytes, abruptly: bool) -> None:
    def act(connection: socket.socket) -> None:
        connection.sendall(part)
        if abruptly:  # a reset instead of an orderly end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    with RawServer(act) as server, pytest.raises(TransportError, match="broke off"):
        _post(server)


def test_the_request_is_sent_once_even_when_the_answer_is_lost() -> None:
    """A login index is good for one message; repeating is for the protocol to decide."""
    with RawServer(lambda connection: None) as server:
        with pytest.raises(TransportError):
            _post(server)
        assert server.accepted == 1


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with (
        HttpTransport(f"http://127.0.0.1:{port}") as transport,
        pytest.raises(TransportError, match="could not be reached"),
    ):
        transport.get_json("/healthz")


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (_answer(kind="text/html"), "wrong_content_type"),
        (_answer(kind="application/json"), "wrong_content_type"),
        (_answer(kind="application/cbor-seq"), "wrong_content_type"),
        (_answer(kind=""), "wrong_content_type"),
        (_answer(extra="Content-Encoding: gzip\r\n"), "content_encoded"),
        (_answer(status="204 No Content", body=b""), "unexpected_status"),
        (_answer(status="206 Partial Content"), "unexpected_status"),
        (_answer(status="404 Not Found", kind="text/html"), "unexpected_status"),
        (_answer(status="404 Not Found"), "unexpected_status"),
        (_answer(status="101 Switching Protocols", extra="Upgrade: x\r\n"), "not_http"),
        (lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "not_http"),
        (lambda connection: connection.sendall(b"\x00" * 200_000), "not_http"),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "not_http"),
    ],
)
def test_an_answer_of_the_wrong_kind_is_refused_by_name(act: Callable[[socket.socket], None], reason: str) -> None:
    with RawServer(act) as server, pytest.raises(ServerMisbehaved) as caught:
        _post(server)

    assert caught.value.reason == reason
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kind", ["text/html", "application/json", ""])
def test_a_server_error_without_a_problem_document_means_unavailable(kind: str) -> None:
    """Such as a gateway's own page."""
    with RawServer(_answer(status="502 Bad Gateway", kind=kind)) as server, pytest.raises(ServerUnavailable):
        _post(server)


# ---- problem documents -------------------------------------------------------------------------------------


def _problem_server(document: bytes, status: int = 403) -> RawServer:
    return RawServer(_answer(document, status=f"{status} No", kind="application/problem+json; charset=utf-8"))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 15_000,
        b"{}",
        b'{"status": 403}',
        b'{"code": "not_active"}',
        b'{"code": "not_active", "status": "403"}',
        b'{"code": "not_active", "status": 403.5}',
        b'{"code": "not_active", "status": true}',
        b'{"code": "not_active", "status": 404}',
        b'{"code": "", "status": 403}',
        b'{"code": "Not-Active", "status": 403}',
        b'{"code": "not_active\\n", "status": 403}',
        b'{"code": "<b>secret</b>", "status": 403}',
        b'{"code": 7, "status": 403}',
        b'{"code": "' + b"a" * 41 + b'", "status": 403}',
        b'{"code": "stale_index", "status": 403, "last_index": -1}',
        b'{"code": "stale_index", "status": 403, "last_index": 18446744073709551616}',
        b'{"code": "stale_index", "status": 403, "last_index": 1.5}',
        b'{"code": "stale_index", "status": 403, "last_index": "1"}',
        b'{"code": "stale_index", "status": 403, "epoch": ' + b"9" * 5000 + b"}",
        b'{"code": "throttled", "status": 403, "retry_after_s": -1}',
        b'{"code": "throttled", "status": 403, "retry_after_s": NaN}',
        b'{"code": "throttled", "status": 403, "retry_after_s": 1e400}',
        b'{"code": "throttled", "status": 403, "retry_after_s": 99999999}',
    ],
)
def test_a_malformed_problem_document_is_refused_without_being_repeated(document: bytes) -> None:
    with _problem_server(document) as server, pytest.raises(ServerMisbehaved) as caught:
        _post(server)

    assert caught.value.reason == "bad_problem_document"
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (429, "throttled", Advice.ASK_USER),
        (403, "bad_enrolment_code", Advice.ASK_USER),
        (409, "profile_changed", Advice.RETRY),
        (403, "quarantined", Advice.STOP),
        (403, "a_word_of_a_later_version", Advice.STOP),
        (500, "internal", Advice.RETRY),
        (503, "unavailable", Advice.RETRY),
    ],
)
def test_the_advice_follows_from_the_code(status: int, code: str, advice: Advice) -> None:
    document = {"code": code, "status": status, "retry_after_s": 30, "epoch": 7, "title": "t", "detail": "d"}

    with (
        _problem_server(json.dumps(document).encode(), status) as server,
        pytest.raises(ServerProblem) as caught,
    ):
        _post(server)

    assert (caught.value.code, caught.value.advice) == (code, advice)
    assert caught.value.problem.retry_after_s == 30
    assert caught.value.problem.epoch == 7
    assert code in str(caught.value)


# ---- addresses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://auth.example",
        "http://auth.example:8443",
        "http://10.0.0.1",
        "http://0.0.0.0:80",
        "http://[2001:db8::1]",
        "http://[::ffff:10.0.0.1]",
        "http://localhost.evil.example",
        "http://128.0.0.1",
    ],
)
def test_plain_http_to_another_machine_is_refused(url: str) -> None:
    with pytest.raises(InsecureTransport):
        HttpTransport(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080",
        "http://127.0.0.1",
        "http://127.255.0.9:1",
        "http://[::1]:8080/",
        "https://auth.example",
        "HTTPS://Auth.Example:8443/",
        "https://[2001:db8::1]:8443",
        "https://xn--bcher-kva.example",
    ],
)
def test_https_and_plain_http_to_this_machine_are_accepted(url: str) -> None:
    transport: Transport = HttpTransport(url)
    transport.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "auth.example",
        "//auth.example",
        "ftp://auth.example",
        "https://",
        "https://:443",
        "https://user:word@auth.example",
        "https://user@auth.example",
        "https://auth.example/prefix",
        "https://auth.example/?q",
        "https://auth.example?x=1",
        "https://auth.example#part",
        "https://auth.example:0",
        "https://auth.example:99999",
        "https://auth.example:port",
        "https://auth_example",
        "https://b\u00fccher.example",
        "https://auth.example\r\nX: y",
        "https://auth .example",
        "https://[::1",
        "https://[fe80::1%25eth0]",
    ],
)
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="server address"):
        HttpTransport(url)


def test_localhost_reaches_this_machine(honest: HonestServer) -> None:
    with HttpTransport(f"http://localhost:{honest.port}") as transport:
        assert transport.get_json("/healthz").body == b'{"status": "ok"}'

    assert honest.requests[0]["headers"]["host"] == f"localhost:{honest.port}"


def test_plain_http_never_leaves_the_machine_whatever_the_resolver_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resolver that sends `localhost` elsewhere must not get a login in the clear."""
    elsewhere = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: elsewhere)

    with HttpTransport("http://localhost") as transport, pytest.raises(TransportError) as caught:
        transport.get_json("/healthz", timeout_s=3600)

    assert "could not be reached" in str(caught.value)
    assert caught.value.__cause__ is not None
    assert "no usable address" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1",
        "/",
        "//evil",
        "/v1/../x",
        "/v1/./x",
        "/v1?x",
        "/v1#x",
        "/v1/%2e",
        "/v1 x",
        "/v1\r\nX: y",
        "/\u00fc",
    ],
)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path: str) -> None:
    with HttpTransport("https://auth.example") as transport:
        with pytest.raises(ValueError, match="request path"):
            transport.get_json(path)
        with pytest.raises(ValueError, match="request path"):
            transport.post_cbor(path, b"", KEY, KEY_ID)


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf])
def test_a_timeout_must_be_a_positive_number(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        HttpTransport("https://auth.example", timeout_s=timeout_s)


def test_representations_show_no_body() -> None:
    with RawServer(_answer(b"secret")) as server, HttpTransport(server.url) as transport:
        reply = transport.post_cbor("/v1/logins", b"\xa0", KEY, KEY_ID)

    assert "secret" not in repr(reply)
    assert repr(transport).startswith("HttpTransport('http://127.0.0.1:")
