"""Running the server: what it listens on, and when it may."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path

import typer
import uvicorn

from ..api.bounded_http import BoundedHttpProtocol
from ..app import create_app, prepare_database
from ..services.context import ServiceContext
from ..settings import Settings, SettingsError
from .shell import OUT


def serve_until_stopped(settings: Settings, ready_file: Path | None) -> None:
    """Listen, tell where, and return when told to stop. SettingsError; typer.Exit if the server did not start."""
    tls = settings.tls_cert_file is not None
    if not tls and not _is_loopback(settings.host):
        raise SettingsError("host: plain http is served on loopback addresses only; set tls_cert_file and tls_key_file")
    application = create_app(settings)
    # Database faults should reach the operator as one sentence, before anything listens.
    ctx: ServiceContext = application.state.context
    prepare_database(ctx)
    listener = _listen(settings.host, settings.port)
    address, port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    url = f"{'https' if tls else 'http'}://{shown}:{port}"

    def ready() -> None:
        OUT.print(f"listening on {url}", markup=False)
        if ready_file is not None:
            # Renamed into place, so that whoever waits for the file never reads half of it.
            temporary = ready_file.with_name(ready_file.name + ".part")
            temporary.write_text(url + "\n", encoding="utf-8")
            os.replace(temporary, ready_file)

    try:
        config_ = uvicorn.Config(
            application,
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
            access_log=False,
            log_level="warning",
            server_header=False,
            # Nobody in front of this server terminates TLS, so nobody's word about the client counts.
            proxy_headers=False,
            http=BoundedHttpProtocol,
            # An upgrade would hand the connection to a parser without these bounds.
            ws="none",
            timeout_keep_alive=30,
            limit_concurrency=settings.max_connections,
            timeout_graceful_shutdown=10,
        )
        try:
            config_.load()
        except OSError as error:
            raise SettingsError(f"tls_cert_file or tls_key_file: {error.strerror or 'not usable'}") from error
        server = _Server(config_, ready)
        server.run(sockets=[listener])
    finally:
        listener.close()
    if not server.started:
        raise typer.Exit(3)


class _Server(uvicorn.Server):
    """uvicorn, telling when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the call."""
        await super().startup(sockets=sockets)
        if self.started and not self.should_exit:
            self._ready()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingsError(f"host, port: cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
