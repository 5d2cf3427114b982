"""`authsvc serve --workers N`: workers that die, cannot start, are told to stop in the middle, or are orphaned."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from real_server import ProcessServer, process_server, wait_until

LONG_S = 60.0
BODY = b"\xa0"
SLOW = (
    b"POST /v1/logins HTTP/1.1\r\nhost: x\r\ncontent-type: application/cbor\r\n"
    b"expect: 100-continue\r\ncontent-length: 1\r\n\r\n"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ProcessServer]:
    with process_server(tmp_path, "--workers", "2") as running:
        yield running


def worker_pids(server: ProcessServer) -> list[int]:
    """The supervisor's children, without the standard library's helper process."""
    try:
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in children if b"spawn_main" in command_line(int(pid))]


def command_line(pid: int) -> bytes:
    """Empty for a process that has ended, whether or not its parent has noticed."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def events(server: ProcessServer, name: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith(b"{")]
    return [line for line in lines if line["event"] == name]


def connect(server: ProcessServer) -> socket.socket:
    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=LONG_S)


def received(connection: socket.socket) -> bytes:
    """Everything until the server closes, or hangs up."""
    got = b""
    try:
        while more := connection.recv(65_536):
            got += more
    except ConnectionError:
        pass
    return got


def test_dead_workers_are_replaced_and_those_that_cannot_start_are_tried_again(tmp_path: Path) -> None:
    """Nobody but those whose requests a dead worker had may notice; and what keeps one from starting, such as a
    database that is away for a minute, must neither end the whole server nor have it start processes all the time.
    """
    policy_file, kek = tmp_path / "policy.toml", base64.b64encode(os.urandom(32)).decode()
    policy_file.write_text("")
    variables = {"TANDEM_POLICY_FILE": str(policy_file), "TANDEM_KEK": kek}
    with process_server(tmp_path, "--workers", "2", **variables) as server:
        # It said that it listens when every worker served: a rollout waits for that.
        served_at = time.monotonic()
        assert len(events(server, "started")) == 2 and server.log.count(b"listening on http://") == 1
        first, second = worker_pids(server)
        # What workers are given is pickled; secrets they read for themselves.
        assert not any(kek.encode() in command_line(pid) for pid in (first, second))

        wait_until(lambda: time.monotonic() > served_at + 1.1)  # in their first second, it would look like a bad start
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: first not in worker_pids(server))
        assert [httpx.get(server.url + "/healthz").status_code for _ in range(20)] == [200] * 20
        wait_until(lambda: len(events(server, "started")) == 3, LONG_S)
        assert len(worker_pids(server)) == 2 and second in worker_pids(server)
        assert [event["exit_code"] for event in events(server, "worker_ended")] == [-signal.SIGKILL]

        policy_file.write_text("no_such_setting = true\n")
        os.kill(second, signal.SIGKILL)

        def refused() -> list[dict[str, object]]:
            return [event for event in events(server, "worker_failed") if event["exit_code"] == 1]

        wait_until(lambda: len(refused()) >= 2, LONG_S)
        assert httpx.get(server.url + "/healthz").status_code == 200
        assert [event["delay_s"] for event in refused()][:2] == [1, 2]
        assert {event["exception"] for event in events(server, "worker_not_started")} == {"SettingsError"}
        assert b"authsvc: wrong settings:\n  no_such_setting" in server.log

        policy_file.write_text("")
        wait_until(lambda: len(events(server, "started")) == 4, LONG_S)
        assert len(worker_pids(server)) == 2
        assert kek.encode() not in server.log


def test_told_to_stop_it_finishes_what_it_has_begun(server: ProcessServer) -> None:
    """A login whose index is consumed and whose answer is cut off costs its user an attempt."""
    pids = worker_pids(server)
    with connect(server) as connection:
        connection.sendall(SLOW)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # a worker waits for the body

        server.process.terminate()
        wait_until(lambda: not can_connect(server))
        connection.sendall(BODY)

        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 401 ") and b"unauthenticated" in answer
    assert b"connection: close" in answer
    assert server.process.wait(LONG_S) == 0
    assert not any(map(command_line, pids))


def can_connect(server: ProcessServer) -> bool:
    try:
        connect(server).close()
    except OSError:
        return False
    return True


def test_a_worker_that_hangs_does_not_hold_up_the_end_for_ever(server: ProcessServer) -> None:
    """A stopped process takes no signal but SIGKILL; the service manager would wait for it."""
    pids = worker_pids(server)
    os.kill(pids[0], signal.SIGSTOP)

    server.process.send_signal(signal.SIGINT)

    assert server.process.wait(LONG_S) == 0
    assert not any(map(command_line, pids))
    assert len(events(server, "worker_killed")) == 1


def test_workers_do_not_outlive_their_supervisor(server: ProcessServer) -> None:
    """Orphans would keep the port, and answer with old settings beside the server that is started next."""
    pids = worker_pids(server)

    server.process.kill()

    wait_until(lambda: not any(map(command_line, pids)), LONG_S)
