"""What may stand around a body: trailers, chunk framing and upgrades; and the admin gate under a prefix."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from attacker import Attacker
from fastapi.testclient import TestClient
from real_server import ProcessServer, process_server
from starlette.applications import Starlette
from starlette.routing import Mount

from authsvc.api.bounded_http import MAX_HEAD_BYTES
from authsvc.app import create_app
from authsvc.services.api_tokens import issue_token
from authsvc.services.context import ServiceContext
from authsvc.settings import Settings
from authsvc.tokens import Scope

MEBIBYTE = 1024 * 1024
CODES, ENROLMENTS = "/v1/admin/enrolment-codes", "/v1/admin/enrolments"
CHUNKED = "transfer-encoding: chunked"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    with process_server(tmp_path_factory.mktemp("server")) as running:
        yield running
        assert running.process.poll() is None, "the server died"


def connect(server: ProcessServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.socket()
    # What waits in buffers here was not taken by the server.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    connection.settimeout(20)
    connection.connect((host, int(port)))
    return connection


def head(start: str, *fields: str) -> bytes:
    return "\r\n".join([start + " HTTP/1.1", "host: auth.example", *fields, "", ""]).encode()


def chunked(body: bytes, size: int, *trailers: str) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return framed + "\r\n".join(["0", *trailers, "", ""]).encode()


def taken_before_hanging_up(server: ProcessServer, start: bytes, piece: bytes, most: int) -> int | None:
    """Bytes that could be sent before the server closed; None if it took all of `most` bytes."""
    sent = 0
    with connect(server) as connection:
        try:
            connection.sendall(start)
            while sent < most:
                connection.sendall(piece)
                sent += len(piece)
                if select.select([connection], [], [], 0.05)[0] and not connection.recv(65_536):
                    return sent
        except OSError:
            return sent
    return None


def answer_to(server: ProcessServer, *segments: bytes) -> tuple[int, bytes]:
    """Status and body of the first answer; (0, b"") if the server hung up without one."""
    received = b""
    with connect(server) as connection:
        try:
            for segment in segments:
                connection.sendall(segment)
            while not is_complete(received) and (more := connection.recv(65_536)):
                received += more
        except ConnectionError:
            pass
    if not received:
        return 0, b""
    first, _, body = received.partition(b"\r\n\r\n")
    return int(first.split()[1]), body


def is_complete(received: bytes) -> bool:
    first, ended, body = received.partition(b"\r\n\r\n")
    lengths = [int(line.partition(b":")[2]) for line in first.lower().split(b"\r\n") if b"content-length:" in line]
    return bool(ended) and lengths != [] and len(body) >= lengths[0]


class TestEndless:
    @pytest.mark.parametrize(
        "start",
        [
            head("POST /v1/logins", "content-type: application/cbor", CHUNKED),
            head("POST /v1/logins", "content-type: text/plain", CHUNKED),
            head(f"POST {CODES}", CHUNKED),
            head("GET /healthz", CHUNKED),
            head("GET /nowhere", CHUNKED),
        ],
    )
    @pytest.mark.parametrize(
        "piece",
        [
            pytest.param(b"x-a: " + b"a" * 60_000 + b"\r\n", id="long trailers"),
            pytest.param(b"a" * 60_000, id="one trailer's name"),
            pytest.param(b"x: y\r\n" * 10_000, id="many short trailers"),
        ],
    )
    def test_trailers_are_hung_up_on(self, server: ProcessServer, start: bytes, piece: bytes) -> None:
        """Nobody is authenticated yet, and the parser keeps all of it."""
        before = server.resident_bytes

        taken = taken_before_hanging_up(server, start + b"0\r\n", piece, 24 * MEBIBYTE)

        assert taken is not None and taken < MEBIBYTE
        assert server.resident_bytes - before < 8 * MEBIBYTE
        assert httpx.get(f"{server.url}/healthz").status_code == 200

    def test_a_size_line_that_does_not_end_is_hung_up_on(self, server: ProcessServer) -> None:
        """What follows a chunk's size is not body either."""
        before = server.resident_bytes
        start = head("POST /v1/logins", "content-type: application/cbor", CHUNKED)

        taken = taken_before_hanging_up(server, start + b"1;", b"a" * 60_000, 24 * MEBIBYTE)

        assert taken is not None and taken < MEBIBYTE
        assert server.resident_bytes - before < 8 * MEBIBYTE

    def test_a_header_line_that_does_not_end_is_hung_up_on(self, server: ProcessServer) -> None:
        """The same bound holds in front of a body."""
        before = server.resident_bytes

        taken = taken_before_hanging_up(server, b"GET / HTTP/1.1\r\nx-a: ", b"a" * 60_000, 24 * MEBIBYTE)

        assert taken is not None and taken < MEBIBYTE
        assert server.resident_bytes - before < 8 * MEBIBYTE


class TestTrailersAreNotHeaders:
    def authorization(self, server: ProcessServer) -> str:
        return f"authorization: Bearer {server.admin_token}"

    def test_a_token_in_the_head_opens_the_door(self, server: ProcessServer) -> None:
        """What the next tests' requests would get with their token in the right place."""
        asked = head(f"GET {ENROLMENTS}", self.authorization(server), CHUNKED, "connection: close")
        status, body = answer_to(server, asked + chunked(b"", 1))
        assert status == 200 and "enrolments" in json.loads(body)

    def test_a_token_in_a_trailer_does_not(self, server: ProcessServer) -> None:
        """Neither in the segment of the head, nor in one that comes later."""
        asked = head(f"GET {ENROLMENTS}", CHUNKED, "connection: close")
        rest = chunked(b"", 1, self.authorization(server))
        assert answer_to(server, asked + rest)[0] == 401
        assert answer_to(server, asked, rest)[0] in (0, 401)

    def test_a_signature_in_trailers_is_none(self, server: ProcessServer) -> None:
        """A signed request's headers are those of its head: a front end sees, and checks, no others."""
        with Attacker.enrolled(server) as attacker:
            signed = attacker.headers("/v1/confirmations", b"\xa0")
        asked = head("POST /v1/confirmations", CHUNKED, "connection: close")
        trailers = [f"{name}: {value}" for name, value in signed.items()]
        status, body = answer_to(server, asked + chunked(b"\xa0", 1, *trailers))
        # Not even the content type of the trailer counts.
        assert status == 415 and json.loads(body)["code"] == "unsupported_media_type"

    def test_a_trailer_beside_a_good_request_changes_nothing(self, server: ProcessServer) -> None:
        """It is dropped, whatever it claims."""
        fields = (self.authorization(server), "content-type: application/json", CHUNKED, "connection: close")
        body = chunked(b'{"label": "Ada"}', 5, "authorization: Bearer wrong", "content-type: text/plain", "x-a: b")
        status, answer = answer_to(server, head(f"POST {CODES}", *fields) + body)
        assert status == 201 and json.loads(answer)["code"]


class TestChunksThatAreFine:
    def test_small_chunks_are_served(self, server: ProcessServer) -> None:
        answer = httpx.post(
            server.url + CODES,
            content=iter([b'{"la', b'bel": ', b'"Ada"}']),
            headers={"authorization": f"Bearer {server.admin_token}", "content-type": "application/json"},
        )
        assert answer.request.headers["transfer-encoding"] == "chunked"
        assert answer.status_code == 201 and answer.json()["code"]

    @pytest.mark.parametrize("size", [50, 1000, 100_000])
    def test_a_login_in_chunks_is_served(self, server: ProcessServer, size: int) -> None:
        """The message is longer than the bound, in chunks of any reasonable size: only the framing counts."""
        with Attacker.enrolled(server, profile="sim-2048", code_bits=2048) as attacker:
            attacker.register()
            message = attacker.prepare().message_1
            pieces = [message[at : at + size] for at in range(0, len(message), size)]
            framing = sum(len(b"%x\r\n\r\n" % len(piece)) for piece in pieces)
            headers = attacker.headers("/v1/logins", message)
            answer = attacker.http.post(attacker.url + "/v1/logins", content=iter(pieces), headers=headers)
        assert framing < MAX_HEAD_BYTES - 2000 < len(message)
        assert answer.status_code == 200

    def test_a_connection_is_used_for_long(self, server: ProcessServer) -> None:
        """The bound is on a request, not on the connection."""
        headers = {"authorization": f"Bearer {server.admin_token}", "content-type": "application/json"}
        with httpx.Client(limits=httpx.Limits(max_connections=1)) as client:
            ports = set()
            for _ in range(30):
                answer = client.post(
                    server.url + CODES, content=iter([b'{"label": "Ada"}']), headers={**headers, "x-a": "a" * 2000}
                )
                assert answer.status_code == 201
                ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
        assert len(ports) == 1


class TestUpgrades:
    @pytest.mark.parametrize("path", ["/", "/v1/logins", ENROLMENTS])
    def test_a_websocket_is_not_accepted(self, server: ProcessServer, path: str) -> None:
        """Its parser has bounds of its own, and the admin gate looks at HTTP requests."""
        fields = (
            "connection: Upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        status, _ = answer_to(server, head(f"GET {path}", *fields))
        # A websocket's own refusal would be 403.
        assert status == (401 if path == ENROLMENTS else 404 if path == "/" else 405)

    def test_what_follows_a_refused_upgrade_is_not_kept(self, server: ProcessServer) -> None:
        before = server.resident_bytes
        start = head("GET /healthz", "connection: Upgrade", "upgrade: websocket")

        taken = taken_before_hanging_up(server, start, b"x: " + b"a" * 60_000, 8 * MEBIBYTE)

        assert taken is not None and taken < MEBIBYTE
        assert server.resident_bytes - before < 8 * MEBIBYTE


def issued_token(ctx: ServiceContext) -> str:
    return issue_token(ctx, name="test", scopes=[Scope.OPERATOR]).text


class TestGateUnderAPrefix:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(data_dir=tmp_path, server_id="auth.example")

    def test_behind_a_front_end_with_a_root_path(self, settings: Settings) -> None:
        """The path then begins with the prefix, and the router takes it off."""
        with TestClient(create_app(settings), root_path="/p") as client:
            token = issued_token(client.app.state.context)  # type: ignore[attr-defined]
            for path in (f"/p{ENROLMENTS}", ENROLMENTS):
                assert client.get(path).status_code == 401, path
                assert client.get(path, headers={"authorization": "Bearer x"}).status_code == 401, path
            assert client.post(f"/p{CODES}", json={"label": "Ada"}).status_code == 401
            good = client.get(f"/p{ENROLMENTS}", headers={"authorization": f"Bearer {token}"})
            assert good.status_code == 200 and good.json()["enrolments"] == []

    def test_mounted_in_another_application(self, settings: Settings) -> None:
        app = create_app(settings)
        with TestClient(app):  # opens the database; the outer application does not pass its start on
            token = issued_token(app.state.context)
            client = TestClient(Starlette(routes=[Mount("/p", app)]))
            assert client.get(f"/p{ENROLMENTS}").status_code == 401
            assert client.post(f"/p{CODES}", json={"label": "Ada"}).status_code == 401
            good = client.get(f"/p{ENROLMENTS}", headers={"authorization": f"Bearer {token}"})
            assert good.status_code == 200 and good.json()["enrolments"] == []
