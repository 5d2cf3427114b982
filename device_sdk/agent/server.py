"""The agent as a process: opens the vault, listens on 127.0.0.1 and nowhere else, until it is stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from device_sdk.agent.application import create_application
from device_sdk.agent.ceremonies import Ceremonies, Timing
from device_sdk.agent.jobs import LONGEST_S, JobBook
from device_sdk.agent.pairing import PairingKey, pairing_file
from device_sdk.agent.sensors import sensor_for
from device_sdk.device import Device
from device_sdk.state_store import StateStore
from device_sdk.transport import HttpTransport
from device_sdk.vault import VaultFile, VaultKey

SHORTEST_S = 15.0
_ADDRESS = "127.0.0.1"
_BACKLOG = 64
_HEAD_BYTES_MAX = 32 << 10


class PortTaken(ValueError):
    """Another program listens there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What the command was told. `longest_s`: how long a request may last, whatever the page allows, 15 to 600.

    `timings`: a file to append a line of JSON to for each request that a person consented to.
    """

    vault: Path
    vault_key: VaultKey
    ca_file: str | None = None
    port: int
    simulated_person: int | None = None
    longest_s: float = LONGEST_S
    timings: Path | None = None

    def __post_init__(self) -> None:
        if not SHORTEST_S <= self.longest_s <= LONGEST_S:
            raise ValueError(f"a request may last {SHORTEST_S:.0f} to {LONGEST_S:.0f} seconds")
        if not 0 <= self.port <= 65535:
            raise ValueError("the port must be 0 to 65535")


def serve(settings: AgentSettings, ready: Callable[[str, str], None]) -> None:
    """Until it is stopped. `ready` is called with the agent's address and the profile's name.

    Raises PortTaken, SensorMissing, PairingError, EncodingError, and what opening a vault raises.
    """
    key = PairingKey.load_or_make(pairing_file(settings.vault))
    with _listener(settings.port) as listener:
        port, listening_since = int(listener.getsockname()[1]), time.time()
        vault = VaultFile.open(settings.vault, settings.vault_key)
        try:
            store = StateStore.load(vault)
            state = store.state
            sensor = sensor_for(state.profile, settings.simulated_person)
            sensor.prepare()
            transport = HttpTransport(state.server_url, ca_file=settings.ca_file)
        except BaseException:
            vault.close()
            raise
        with Device(store, transport, sensor.encoder) as device:
            ceremonies = Ceremonies(
                device,
                sensor,
                JobBook(time.monotonic, longest_s=settings.longest_s),
                timed=_appended_to(settings.timings) if settings.timings else lambda timing: None,
            )
            app = create_application(
                ceremonies,
                key,
                port=port,
                listening_since=listening_since,
                server=_host(state.server_url),
                profile=state.profile.name,
            )
            config = uvicorn.Config(
                app,
                # httptools would hold a request head of any size, whoever sends it.
                http="h11",
                h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
                log_level="error",
                access_log=False,
                server_header=False,
                date_header=False,
                lifespan="off",
                ws="none",
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
            ready(f"http://{_ADDRESS}:{port}", state.profile.name)
            _Server(config, ceremonies.book).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Ends open requests first when it is stopped, so that nobody is left waiting."""

    def __init__(self, config: uvicorn.Config, book: JobBook) -> None:
        super().__init__(config)
        self._book = book

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, which then raises them once more: the vault would not be closed."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._book.close()
        await super().shutdown(sockets)


def _listener(port: int) -> socket.socket:
    # The protocol is named, or the event loop leaves Nagle's algorithm on and small answers wait.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_ADDRESS, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise PortTaken(f"port {port} of this computer is taken; choose another with --port") from None
    return listener


def _host(url: str) -> str:
    return url.split("://", 1)[-1].split("/", 1)[0]


def _appended_to(file: Path) -> Callable[[Timing], None]:
    def append(timing: Timing) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(json.dumps(timing.as_dict()) + "\n")

    return append
