"""More requests than a worker can serve: the rest is told so at once, and nothing grows."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import pytest
from attacker import Attacker
from real_server import ProcessServer, process_server, wait_until

from mpc.login.messages import Confirmation, Message3

PATIENCE_S = 30.0
QUEUED, CONNECTIONS = 4, 300
MEBIBYTE = 1024 * 1024


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ProcessServer]:
    with process_server(tmp_path, TANDEM_MAX_QUEUED=str(QUEUED), TANDEM_WORKER_THREADS="1") as running:
        yield running
        assert running.process.poll() is None, "the server died"
        assert b"Traceback" not in running.log


@pytest.fixture
def attacker(server: ProcessServer) -> Iterator[Attacker]:
    with Attacker.enrolled(server) as enrolled:
        yield enrolled


def connect(server: ProcessServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


@contextmanager
def occupied_database(server: ProcessServer) -> Iterator[None]:
    """Everything that writes has to wait."""
    with closing(sqlite3.connect(server.database.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


def confirmation(attacker: Attacker) -> bytes:
    """A signed request that needs the database's write lock, and is then refused."""
    body = Message3(attacker.id, Confirmation(1, bytes(32))).encode()
    headers = {**attacker.headers("/v1/confirmations", body), "Host": attacker.url.removeprefix("http://")}
    lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() != "content-length"]
    start = "\r\n".join(["POST /v1/confirmations HTTP/1.1", *lines, f"Content-Length: {len(body)}", "", ""])
    return start.encode("latin-1") + body


def answer(connection: socket.socket) -> tuple[int, bytes, dict[str, object]]:
    """Status, head and problem document of one answer."""
    got = b""
    while b"}" not in got and (more := connection.recv(65_536)):
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.lower(), json.loads(body)


def test_beyond_the_queue_the_answer_comes_at_once_and_the_queue_is_served(
    server: ProcessServer, attacker: Attacker
) -> None:
    """A queue without end would make everybody wait for answers that nobody wants any more."""
    with ExitStack() as open_connections:

        def asking(request: bytes) -> socket.socket:
            connection = open_connections.enter_context(connect(server))
            connection.sendall(request)
            return connection

        with occupied_database(server):
            queued = [asking(confirmation(attacker)) for _ in range(QUEUED)]

            def is_full() -> bool:
                head_alone = b"POST /v1/logins HTTP/1.1\r\nhost: x\r\ncontent-type: application/cbor\r\n"
                with connect(server) as connection:
                    connection.sendall(head_alone + b"content-length: 5000\r\n\r\n")
                    connection.settimeout(0.5)
                    try:
                        status, head, document = answer(connection)
                    except TimeoutError:
                        return False  # it waits for the body, so there is a place
                    assert (status, document["code"]) == (503, "unavailable") and b"retry-after: 1" in head
                    return True

            wait_until(is_full, PATIENCE_S)
            refused = Counter(answer(asking(confirmation(attacker)))[0] for _ in range(50))
            assert refused == {503: 50}
            assert httpx.get(server.url + "/healthz").status_code == 200
        assert [answer(connection)[2]["code"] for connection in queued] == ["unknown_login"] * QUEUED
    assert httpx.get(server.url + "/readyz").status_code == 200


def test_hundreds_of_slow_and_quick_bodies_neither_stop_the_service_nor_grow_it(
    server: ProcessServer, attacker: Attacker
) -> None:
    """A body that is still on its way holds a connection, not a place: other requests are served beside it."""
    attacker.register()
    assert attacker.still_works()
    before = server.resident_bytes
    start = b"POST /v1/logins HTTP/1.1\r\nhost: x\r\ncontent-type: application/cbor\r\ncontent-length: 9000\r\n\r\n"
    with ExitStack() as open_connections:
        slow = [open_connections.enter_context(connect(server)) for _ in range(CONNECTIONS)]
        for connection in slow:
            connection.sendall(start + bytes(8_000))
        assert attacker.still_works()
        for _ in range(5):
            quick = [open_connections.enter_context(connect(server)) for _ in range(30)]
            for connection in quick:
                connection.sendall(start + bytes(9_000))
            statuses = Counter(answer(connection)[0] for connection in quick)
            assert set(statuses) <= {401, 503} and statuses[401]
            for connection in quick:
                connection.close()
        for connection in slow:
            connection.sendall(bytes(500))
        assert attacker.still_works()
        for connection in slow:
            connection.sendall(bytes(500))
        statuses = Counter(answer(connection)[0] for connection in slow)
        assert set(statuses) <= {401, 503}
    assert attacker.still_works()
    assert server.resident_bytes - before < 32 * MEBIBYTE


def test_slow_bodies_for_console_and_admin_api_hold_no_places(server: ProcessServer) -> None:
    """Anybody can begin to sign in; the probes of a balancer, the metrics and the operators must not wait for him."""
    token = f"authorization: Bearer {server.admin_token}"
    form = "content-type: application/x-www-form-urlencoded"
    heads = [["POST /console/sign-in HTTP/1.1", "origin: http://auth.example", form]] * 70
    heads += [["POST /v1/admin/enrolment-codes HTTP/1.1", token, "content-type: application/json"]] * 10
    with ExitStack() as open_connections:
        for head in heads:
            connection = open_connections.enter_context(connect(server))
            lines = [*head, "host: auth.example", "content-length: 1000", "expect: 100-continue", "", ""]
            connection.sendall("\r\n".join(lines).encode())
            # The server says so when it begins to read the body, so nothing is left to luck.
            assert connection.recv(65_536).startswith(b"HTTP/1.1 100 "), head[0]
        bearer = {"authorization": f"Bearer {server.admin_token}"}
        for path in ("/healthz", "/readyz", "/metrics", "/v1/admin/token", "/v1/profiles/sim-512", "/console/sign-in"):
            assert httpx.get(server.url + path, headers=bearer).status_code == 200, path
