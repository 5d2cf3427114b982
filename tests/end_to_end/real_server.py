"""Real authentication servers for tests: the installed command as a process, or the application in a thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from authsvc.app import create_app, create_context
from authsvc.services import administration
from authsvc.services.api_tokens import issue_token
from authsvc.services.context import ServiceContext
from authsvc.settings import Settings
from authsvc.tokens import Scope

RP_IDS = ["shop.example", "bank.example", "localhost"]
NO_WAITING = {
    "consecutive_before_delay": 100,
    "consecutive_before_disabled": 100,
    "unconfirmed_per_30_days": 100_000,
    "attempts_per_day": 100_000,
    "attempts_per_template": 1_000_000,
}
"""Limits so wide that a test of something else never meets them."""


@dataclass(frozen=True)
class Database:
    """What an observer sees in the server's SQLite file."""

    path: Path

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self._open() as connection:
            return [dict(row) for row in connection.execute(query, values)]

    def one(self, query: str, *values: object) -> dict[str, Any]:
        found = self.rows(query, *values)
        assert len(found) == 1, f"{len(found)} rows"
        return found[0]

    def dump(self) -> str:
        """All rows but those of the rate limits, of which any request may take tokens."""
        with self._open() as connection:
            return "\n".join(line for line in connection.iterdump() if not line.startswith('INSERT INTO "rate_limits"'))

    def file_bytes(self) -> bytes:
        """The file, its write-ahead log and its index, as they lie on disk."""
        return b"".join(path.read_bytes() for path in sorted(self.path.parent.glob(self.path.name + "*")))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()


@dataclass
class Traffic:
    """(method, path, body length, answer length, status) of every finished request, in order of arrival."""

    seen: list[tuple[str, str, int, int, int]] = field(default_factory=list)
    arrived: list[str] = field(default_factory=list)

    def paths(self) -> list[str]:
        return list(self.arrived)

    def clear(self) -> None:
        self.seen.clear()
        self.arrived.clear()


class ThreadServer:
    """The application behind uvicorn in a thread of this process, so that a test can look into it."""

    def __init__(self, settings: Settings) -> None:
        self.app = create_app(settings)
        self.context: ServiceContext = self.app.state.context
        self.database = Database(settings.data_dir / "authsvc.db")
        self.traffic = Traffic()
        self.hold: dict[str, threading.Event] = {}
        """A path with an event is answered only after the event is set."""
        config = uvicorn.Config(
            self._recorded,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            lifespan="on",
            interface="asgi3",
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
        )
        self._tls = settings.tls_cert_file is not None
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def start(self) -> ThreadServer:
        self._thread.start()
        wait_until(lambda: self._server.started or not self._thread.is_alive())
        assert self._server.started
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def code(self, label: str = "test", lifetime_s: int | None = None) -> str:
        return administration.issue_code(self.context, label=label, lifetime_s=lifetime_s).code

    async def _recorded(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, up, down, status = scope["path"], 0, 0, 0
        self.traffic.arrived.append(path)
        while path in self.hold and not self.hold[path].is_set():
            await asyncio.sleep(0.005)

        async def counted_receive() -> Any:
            nonlocal up
            message = await receive()
            up += len(message.get("body", b""))
            return message

        async def counted_send(message: Any) -> None:
            nonlocal down, status
            status = message.get("status", status)
            down += len(message.get("body", b""))
            await send(message)

        await self.app(scope, counted_receive, counted_send)
        self.traffic.seen.append((scope["method"], path, up, down, status))


@contextmanager
def thread_server(folder: Path, **settings: Any) -> Iterator[ThreadServer]:
    """A running ThreadServer with its data in `folder`."""
    given: dict[str, Any] = {"limits": NO_WAITING, "allowed_rp_ids": RP_IDS, "server_id": "auth.example", **settings}
    server = ThreadServer(Settings(data_dir=folder, port=given.pop("port", 0), **given)).start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class ProcessServer:
    """`python -m authsvc serve` as an operator runs it."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    log_path: Path

    @property
    def database(self) -> Database:
        return Database(self.folder / "authsvc.db")

    @cached_property
    def admin_token(self) -> str:
        """One with every scope, issued beside the running server."""
        ctx = create_context(Settings(data_dir=self.folder))
        try:
            return issue_token(ctx, name="test", scopes=list(Scope)).text
        finally:
            ctx.store.close()

    @property
    def log(self) -> bytes:
        return self.log_path.read_bytes()

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def code(self, label: str = "test") -> str:
        answer = httpx.post(
            f"{self.url}/v1/admin/enrolment-codes",
            json={"label": label},
            headers={"authorization": f"Bearer {self.admin_token}"},
        )
        assert answer.status_code == 201
        return str(answer.json()["code"])


def process_environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a server or command with its data in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    limits = {f"TANDEM_LIMITS__{name.upper()}": str(value) for name, value in NO_WAITING.items()}
    rp_ids = "[" + ",".join(f'"{rp_id}"' for rp_id in RP_IDS) + "]"
    return {**kept, **limits, "TANDEM_DATA_DIR": str(folder), "TANDEM_ALLOWED_RP_IDS": rp_ids, **variables}


@contextmanager
def process_server(folder: Path, *arguments: str, **variables: str) -> Iterator[ProcessServer]:
    """A running ProcessServer with its data, ready file and log in `folder`."""
    ready, log_path = folder / "ready", folder / "server.log"
    command = [sys.executable, "-m", "authsvc", "serve", "--port", "0", "--ready-file", str(ready), *arguments]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            env=process_environment(folder, **variables),
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, 60.0)
        assert ready.exists(), log_path.read_text()
        yield ProcessServer(ready.read_text().strip(), process, folder, log_path)
    finally:
        process.terminate()
        process.wait(40)


def wait_until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Return once the condition holds; fails the test after `limit_s` seconds."""
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.005)
