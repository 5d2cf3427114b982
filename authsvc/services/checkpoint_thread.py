"""A thread of each server process that writes checkpoints, one worker at a time, and one more when it stops."""

from __future__ import annotations

import threading

import structlog

from ..logs import where
from ..store.engine import StoreUnavailable
from .checkpoints import AuditLogAltered, write_checkpoint
from .context import ServiceContext


class CheckpointThread:
    """Every `interval_s` seconds, if events are new and nobody wrote a checkpoint meanwhile."""

    def __init__(self, ctx: ServiceContext, interval_s: float) -> None:
        self._ctx = ctx
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tandem-checkpoints", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread and cover what is left. Call when the last request is answered, before the store closes."""
        self._stopping.set()
        self._thread.join()
        self._write(unless_within_s=0.0)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._write(unless_within_s=self._interval_s / 2)

    def _write(self, *, unless_within_s: float) -> None:
        """What goes wrong here is told and tried again: logins do not depend on it."""
        try:
            write_checkpoint(self._ctx, unless_within_s=unless_within_s)
        except AuditLogAltered:
            pass  # told where it was found, and again the next time
        except StoreUnavailable:
            structlog.get_logger().warning("checkpoint_postponed")
        except Exception as error:
            # Key or an event was tampered with: `authsvc audit verify` tells what. The thread goes on,
            # since the operator may put it right.
            structlog.get_logger().error("checkpoint_impossible", exception=type(error).__name__, where=where(error))
