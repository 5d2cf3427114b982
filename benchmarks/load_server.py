"""The server under load: the installed command over a database of its own, and clients that work through a pipe."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from authsvc.app import create_context
from authsvc.services import administration
from authsvc.settings import load_settings
from benchmarks.processes import ServerProcess

WIDE_LIMITS: Mapping[str, int] = {
    "consecutive_before_delay": 100,
    "consecutive_before_disabled": 100,
    "unconfirmed_per_30_days": 100_000,
    "attempts_per_day": 100_000,
    "attempts_per_template": 1_000_000,
    # Counted all the same: 0 would switch them off, and their cost with them.
    "address_requests_per_s": 100_000,
    "address_burst": 1_000_000,
    "enrolment_requests_per_s": 100_000,
    "enrolment_burst": 1_000_000,
}
"""Entries of the table `limits`, so wide that a load from one address and few people never meets them."""

_READY_TIMEOUT_S = 300.0
_LOGIN_TIMEOUT_S = 60.0


def settings_for(database_url: str) -> dict[str, str]:
    """The environment of a server over this database, with wide limits."""
    limits = {f"TANDEM_LIMITS__{name.upper()}": str(value) for name, value in WIDE_LIMITS.items()}
    return {**limits, "TANDEM_DATABASE_URL": database_url}


def serving(directory: Path, database_url: str, workers: int) -> ServerProcess:
    """`authsvc serve` with so many workers. Its listeners are all open once it is entered."""
    serve = ["authsvc", "serve", "--port", "0"]
    if workers > 1:
        serve += ["--workers", str(workers)]
    return ServerProcess(serve, directory, settings_for(database_url))


def enrolment_codes(directory: Path, database_url: str, count: int) -> list[str]:
    """One-time codes, issued as `authsvc code` does, on the database of a running server."""
    given: dict[str, Any] = {"data_dir": directory / "data", "database_url": database_url}
    context = create_context(load_settings(**given))
    try:
        return [administration.issue_code(context, label="load").code for _ in range(count)]
    finally:
        context.store.close()


class Clients:
    """Client processes that share one pipe of work and one of answers. Ended when the `with` block ends."""

    def __init__(self, url: str, directory: Path, codes: Sequence[Sequence[str]]) -> None:
        """codes: for each client those of its devices."""
        self._directory = directory
        client = [sys.executable, "-m", "benchmarks.load_client", "--server", url]
        self._commands = [
            [*client, "--directory", str(directory / str(at)), "--seed", str(1000 * at + 1), *of_client]
            for at, of_client in enumerate(codes)
        ]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = directory / "clients.log"
        self._unread = b""

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def ask(self, logins: int) -> Iterator[dict[str, Any]]:
        """So many logins, by whichever client is free; each as it ends."""
        os.write(self._work, b"." * logins)
        for _ in range(logins):
            yield self._answer(_LOGIN_TIMEOUT_S)

    def __enter__(self) -> Clients:
        self._directory.mkdir(parents=True, exist_ok=True)
        their_work, self._work = os.pipe()
        self._answers, their_answers = os.pipe()
        with self._log.open("wb") as log:
            for command in self._commands:
                self._processes.append(
                    subprocess.Popen(command, stdin=their_work, stdout=their_answers, stderr=log, env=_environment())
                )
        os.close(their_work)
        os.close(their_answers)
        try:
            for _ in self._processes:
                self._answer(_READY_TIMEOUT_S)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        give_up = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if any(process.poll() is not None for process in self._processes) or time.monotonic() > give_up:
                    raise RuntimeError(f"a client failed:\n{self._log.read_text(errors='replace')[-2000:]}")
                if selector.select(1.0):
                    self._unread += os.read(self._answers, 65536)
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _stop(self) -> None:
        os.close(self._work)
        for process in self._processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        os.close(self._answers)


def _environment() -> dict[str, str]:
    """The folder of `benchmarks` first, wherever the command was started."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@contextmanager
def load_on(directory: Path, database_url: str, *, workers: int, clients: int, devices: int) -> Iterator[Any]:
    """(server, clients): a server with so many workers, and clients with so many devices each, enrolled and warm."""
    with serving(directory, database_url, workers) as server:
        codes = enrolment_codes(directory, database_url, clients * devices)
        shares = [codes[at * devices : (at + 1) * devices] for at in range(clients)]
        with Clients(server.url, directory / "clients", shares) as running:
            yield server, running
