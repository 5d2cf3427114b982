"""One process that serves: uvicorn around the application, in this process or as one of several workers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

import structlog
import uvicorn

from ..api.bounded_http import BoundedHttpProtocol, HttpBounds
from ..app import create_app, prepare_database
from ..logs import configure_logs, where
from ..services.context import ServiceContext
from ..settings import Settings, SettingsError, load_settings

FINISH_S = 10
"""How long requests that have begun may take to end once the process is told to stop."""
BEAT_EVERY_S = 5
_TICKS_A_SECOND = 10
_log = structlog.get_logger()


class Server(uvicorn.Server):
    """uvicorn, telling when it listens, and from its event loop every `BEAT_EVERY_S` that it goes on."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], beat: Callable[[], None] = lambda: None):
        super().__init__(config)
        self._ready, self._beat = ready, beat

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the call."""
        await super().startup(sockets=sockets)
        if self.started and not self.should_exit:
            # What is here now stays for good: the collector need not walk all modules each time it walks everything.
            gc.collect()
            gc.freeze()
            self._ready()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, ten times a second."""
        if counter % (BEAT_EVERY_S * _TICKS_A_SECOND) == 0:
            self._beat()
        return await super().on_tick(counter)


def uvicorn_config(application: Any, settings: Settings) -> uvicorn.Config:
    """How every process serves. Not loaded yet: loading reads the certificate."""
    bounds = HttpBounds(settings.max_connections, settings.head_timeout_s, settings.body_timeout_s)
    return uvicorn.Config(
        application,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        access_log=False,
        log_level="warning",
        server_header=False,
        # Nobody in front of this server terminates TLS, so nobody's word about the client counts.
        proxy_headers=False,
        # Called like the class that uvicorn expects. Connections are bounded there, not by uvicorn.
        http=cast(Any, partial(BoundedHttpProtocol, bounds=bounds)),
        # An upgrade would hand the connection to a parser without these bounds.
        ws="none",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=FINISH_S,
    )


def work(number: int, listener: socket.socket, given: Mapping[str, Any], beats: Connection) -> None:
    """The main function of a worker process, which the supervisor has spawned.

    given: the settings of the command line, of which none is a secret; all others are read here, from where the
    supervisor read them. beats: one byte when it serves, and one from time to time.
    """
    # Ctrl+C reaches every process of a terminal; the supervisor alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="tandem-parent", daemon=True).start()
    configure_logs()
    try:
        settings = load_settings(**given)
        configure_logs(settings.log_level)
        application = create_app(settings)
        context: ServiceContext = application.state.context
        prepare_database(context)
    except Exception as error:
        # Whatever it is, the supervisor tries again later. Only the text of a SettingsError is meant to be read.
        if isinstance(error, SettingsError):
            print(f"authsvc: {error}", file=sys.stderr)
        _log.error("worker_not_started", worker=number, exception=type(error).__name__, where=where(error))
        raise SystemExit(1) from None
    os.set_blocking(beats.fileno(), False)

    def beat() -> None:
        with suppress(OSError):  # a supervisor that does not read is no reason to stop serving
            os.write(beats.fileno(), b".")

    Server(uvicorn_config(application, settings), ready=beat, beat=beat).run(sockets=[listener])


def _end_with_parent() -> None:
    """Without a supervisor nobody would ever stop this process, and the port would stay taken."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(2 * FINISH_S)
    os._exit(1)
