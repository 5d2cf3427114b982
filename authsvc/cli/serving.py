"""Running the server: what it listens on, and when it may."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ..app import create_app, prepare_database
from ..metrics import shared_by_workers
from ..services.context import ServiceContext
from ..settings import Settings, SettingsError
from .server_process import Server, uvicorn_config
from .shell import OUT
from .workers import Supervisor


def serve_until_stopped(settings: Settings, given: Mapping[str, Any], ready_file: Path | None) -> None:
    """Listen, tell where, and return when told to stop. SettingsError; typer.Exit if the server did not start.

    given: those of the settings that the command line gave, for the workers to read theirs with.
    """
    tls = settings.tls_cert_file is not None
    if not tls and not _is_loopback(settings.host):
        raise SettingsError("host: plain http is served on loopback addresses only; set tls_cert_file and tls_key_file")
    # Faults of files and database should reach the operator as one sentence, before anything listens.
    application = create_app(settings)
    context: ServiceContext = application.state.context
    prepare_database(context)
    config = uvicorn_config(application, settings)
    try:
        config.load()
    except OSError as error:
        raise SettingsError(f"tls_cert_file or tls_key_file: {error.strerror or 'not usable'}") from error
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
        if settings.workers == 1:
            server = Server(config, ready)
            server.run(sockets=[listener])
            started = server.started
        else:
            context.store.close()
            with shared_by_workers(settings.data_dir):
                supervisor = Supervisor(settings.workers, listener, given, ready)
                supervisor.run()
            started = supervisor.has_been_ready
    finally:
        listener.close()
    if not started:
        raise typer.Exit(3)


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
