"""Both servers on this machine, for the story and for the pages: free loopback ports, an own SQLite file each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0


class StackError(Exception):
    """A server did not start or an operator's command failed; the text says which and shows its last words."""


class AuthServer:
    """The authentication server as its own process, and its operator's command line.

    The relying party does not know it: only the phone talks to it, and the operator on its machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rp_id: str,
        other_rp_ids: Sequence[str] = (),
        profiles: Mapping[str, Any] | None = None,
    ) -> None:
        """`rp_id`, `other_rp_ids`: whom it serves. `profiles`: in the form of its settings, instead of its defaults."""
        self._folder = folder
        self._log = folder / "authsvc.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")},
            "TANDEM_DATA_DIR": str(folder / "authsvc"),
            "TANDEM_ALLOWED_RP_IDS": json.dumps([rp_id, *other_rp_ids]),
        }
        if profiles is not None:
            self._environment["TANDEM_PROFILES"] = json.dumps(profiles)
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> AuthServer:
        ready = self._folder / "authsvc.url"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "authsvc", "serve", "--port", "0", "--ready-file", str(ready)],
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        give_up = time.monotonic() + _START_TIMEOUT_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self._stop()
                raise StackError(f"the auth server did not start:\n{self._last_words()}")
            time.sleep(0.05)
        self.url = ready.read_text(encoding="utf-8").strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def operator(self, *arguments: str) -> str:
        """What an operator types on the server's machine: `authsvc …`. Its output. Raises StackError."""
        return run_command("authsvc", *arguments, environment=self._environment)

    def template_share(self, enrolment_id: bytes) -> bytes:
        """The server's half of a template, for the page that shows that it is noise."""
        return bytes.fromhex(self.operator("template-share", enrolment_id.hex()))

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]


class RelyingPartyServer:
    """An ASGI app served from a thread of this process until the block ends."""

    def __init__(self, listener: socket.socket, app: FastAPI) -> None:
        config = uvicorn.Config(app, log_level="warning", server_header=False, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)

    def __enter__(self) -> RelyingPartyServer:
        self._thread.start()
        give_up = time.monotonic() + _START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > give_up:
                raise StackError("the relying party did not start")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(_STOP_TIMEOUT_S)

    def wait(self) -> None:
        """Until somebody stops it."""
        while self._thread.is_alive():
            self._thread.join(0.5)


def run_command(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one of our commands as its user would; its output. Raises StackError with its last words."""
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", module, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise StackError(f"{module} {arguments[0]} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip()


def free_port(wanted: int = 0) -> socket.socket:
    """A listening loopback socket. Raises StackError if the wanted port is taken."""
    # The protocol is named, or the event loop leaves Nagle's algorithm on and small answers wait.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", wanted))
    except OSError as error:
        listener.close()
        raise StackError(f"port {wanted} is taken; choose another") from error
    listener.listen(64)
    return listener
