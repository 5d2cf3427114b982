"""Connections that say nothing, little, or all of it late; and answers that nobody takes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest
import uvicorn
from real_server import ProcessServer, process_server, wait_until

from authsvc.api.bounded_http import BoundedHttpProtocol, HttpBounds

HEAD_S, BODY_S = 0.5, 0.6
PATIENCE_S = 30.0
"""How long this test waits to be hung up on. Without the limits it would be for ever."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    limits = {"TANDEM_HEAD_TIMEOUT_S": str(HEAD_S), "TANDEM_BODY_TIMEOUT_S": str(BODY_S)}
    with process_server(tmp_path_factory.mktemp("server"), **limits) as running:
        yield running
        assert running.process.poll() is None, "the server died"
        assert b"Traceback" not in running.log


def connect(server: ProcessServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of one answer."""
    got = b""
    while b"}" not in got and (more := connection.recv(65_536)):
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    return head.lower(), body


def dripped(connection: socket.socket, drop: bytes, start: bytes = b"") -> bytes:
    """What came back until the server hung up, while a drop went out ten times a second."""
    got = b""
    until = time.monotonic() + PATIENCE_S
    connection.settimeout(0.1)
    try:
        connection.sendall(start)
        while time.monotonic() < until:
            connection.sendall(drop)
            try:
                more = connection.recv(65_536)
            except TimeoutError:
                continue
            if not more:
                return got
            got += more
    except (BrokenPipeError, ConnectionResetError):
        return got
    raise AssertionError("the server never hung up")


def test_a_connection_that_never_says_anything_is_closed(server: ProcessServer) -> None:
    """Opening it costs a stranger nothing, and each one counts from `max_connections`."""
    with connect(server) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("start", "drop"),
    [(b"", b"G"), (b"GET / HTTP/1.1\r\nhost: x\r\n", b"x: y\r\n"), (b"", b"\r\n")],
    ids=["a method without end", "header after header", "empty lines before the request"],
)
def test_a_head_that_comes_drop_by_drop_is_given_up(server: ProcessServer, start: bytes, drop: bytes) -> None:
    with connect(server) as connection:
        assert b"200" not in dripped(connection, drop, start)


def test_so_is_the_second_one_on_a_connection(server: ProcessServer) -> None:
    """The time limit for idle connections ends with the first byte of a head; this one begins with it."""
    with connect(server) as connection:
        got = dripped(connection, b"x: y\r\n", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\n")
    assert got.count(b"HTTP/1.1 ") == 1 and b"alive" in got


def test_an_honest_connection_stays_open_between_requests(server: ProcessServer) -> None:
    """The SDK keeps its connection; the deadline of a head must not run while nobody has begun one."""
    with connect(server) as connection:
        for _ in range(3):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert answer(connection)[0].startswith(b"http/1.1 200 ")
            time.sleep(1.5 * HEAD_S)


def admin(server: ProcessServer) -> bytes:
    return (
        b"POST /v1/admin/enrolment-codes HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer " + server.admin_token.encode() + b"\r\ncontent-length: 1000\r\n\r\n"
    )


def protocol(_server: ProcessServer) -> bytes:
    return b"POST /v1/logins HTTP/1.1\r\nhost: x\r\ncontent-type: application/cbor\r\ncontent-length: 1000\r\n\r\n"


@pytest.mark.parametrize("head", [admin, protocol])
def test_a_body_that_comes_drop_by_drop_is_refused_and_then_hung_up_on(
    server: ProcessServer, head: Callable[[ProcessServer], bytes]
) -> None:
    """An operator's token may be stolen too, or his network be bad."""
    with connect(server) as connection:
        answer = dripped(connection, b" ", head(server))
    assert answer.startswith(b"HTTP/1.1 408 ") and b"too_slow" in answer


def test_a_body_that_nobody_asked_for_does_not_hold_the_connection(server: ProcessServer) -> None:
    """The answer has long been given; the rest of the request is thrown away, but not for ever."""
    with connect(server) as connection:
        start = b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
        assert dripped(connection, b" ", start).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("pieces", [1, 256], ids=["in one piece", "in many"])
def test_an_answer_that_nobody_takes_is_thrown_away(pieces: int) -> None:
    """Closing waits for the other side to read; whoever never does would keep his place and the server its memory.

    No stranger gets an answer that is larger than the kernel's buffers, so this application is a test's own.
    """
    piece = bytes(16 * 1024 * 1024 // pieces)
    outcome: list[str] = []

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(1, pieces + 1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < pieces})
        outcome.append("ended")

    protocol = partial(BoundedHttpProtocol, bounds=HttpBounds(10, HEAD_S, BODY_S))
    config = uvicorn.Config(application, port=0, http=cast(Any, protocol), lifespan="off", log_level="error")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    wait_until(lambda: running.started)
    address = running.servers[0].sockets[0].getsockname()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        wait_until(lambda: len(running.server_state.connections) == 1)

        wait_until(lambda: not running.server_state.connections, PATIENCE_S)

        wait_until(lambda: outcome == ["ended"])
    running.should_exit = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_requests_that_nobody_waited_an_answer_for_are_not_queued() -> None:
    """A stranger's megabyte of requests on one connection would become thirty of queued ones, on each connection."""
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    longest = 0
    asked = threading.Semaphore(0)

    class Watched(BoundedHttpProtocol):
        def data_received(self, data: bytes) -> None:
            nonlocal longest
            super().data_received(data)
            longest = max(longest, len(self.pipeline))

    over = threading.Event()

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        asked.release()
        while not over.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    protocol = partial(Watched, bounds=HttpBounds(10, PATIENCE_S, PATIENCE_S))
    config = uvicorn.Config(application, port=0, http=cast(Any, protocol), lifespan="off", log_level="critical")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    wait_until(lambda: running.started)
    with socket.create_connection(running.servers[0].sockets[0].getsockname(), timeout=PATIENCE_S) as connection:
        got = b""
        try:
            connection.sendall(ask * (1024 * 1024 // len(ask)))
            while more := connection.recv(65_536):
                got += more
        except ConnectionError:
            pass
        wait_until(lambda: not running.server_state.connections, PATIENCE_S)
    assert not got or got.startswith(b"HTTP/1.1 400 ")
    over.set()
    running.should_exit = True
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert longest == 1
    assert asked.acquire(timeout=PATIENCE_S) and not asked.acquire(blocking=False), "one was begun after the end"


def test_a_request_that_waits_for_the_one_before_is_answered(server: ProcessServer) -> None:
    """Some clients send the next request early; one at a time costs nothing."""
    ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(2 * ask)
        got = b""
        while got.count(b"alive") < 2 and (more := connection.recv(65_536)):
            got += more
    assert got.count(b"HTTP/1.1 200 ") == 2


def test_connections_beyond_the_bound_are_told_so_and_those_before_are_served(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A flood of connections must not end those that came before it."""
    with process_server(tmp_path_factory.mktemp("server"), TANDEM_MAX_CONNECTIONS="2") as server:
        ask = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        with connect(server) as first, connect(server) as second, connect(server) as third, connect(server) as fourth:
            for connection in (first, second):
                connection.sendall(ask)
                assert answer(connection)[0].startswith(b"http/1.1 200 ")
            for connection in (third, fourth):
                connection.sendall(ask)
                head, body = answer(connection)
                assert head.startswith(b"http/1.1 503 ") and b"retry-after: 1" in head
                assert json.loads(body)["code"] == "unavailable"
                assert connection.recv(1) == b""
            with connect(server) as third, connect(server) as fourth, connect(server) as fifth:
                try:
                    fifth.sendall(ask)
                    assert fifth.recv(65_536) == b""  # beyond twice the bound, not even that
                except ConnectionError:
                    pass
            for connection in (first, second):
                connection.sendall(ask)
                assert answer(connection)[0].startswith(b"http/1.1 200 ")
