"""The supervisor of `serve --workers N`: it holds the listener, keeps N workers running, and serves nobody itself.

uvicorn has one too. It gives up all workers when one cannot start, as when the database is away for a moment; it waits
without a limit for workers to end; and while it asks one worker whether it is alive it notices neither signals nor that
another has died.

| what happens to a worker | what follows |
|---|---|
| it ends, or is killed | another takes its place at once |
| it cannot start, or ends in its first second | another after 1 s, then 2, 4, … 30 s |
| its event loop says nothing for `SILENCE_S` | it is killed. Computing does not silence it: that is done in threads |
| the supervisor is told to stop | it finishes what it has begun, for `FINISH_S`; if it hangs, it is killed |
| the supervisor is gone | it stops by itself |
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import structlog

from .server_process import FINISH_S, work

SILENCE_S = 60.0
_KILL_AFTER_S = 2.0 * FINISH_S
_LONGEST_DELAY_S = 30.0
_SURVIVED_S = 1.0
_log = structlog.get_logger()
# A fresh interpreter each: a forked one would share this one's random state, locks and open files.
_SPAWN = multiprocessing.get_context("spawn")


class Supervisor:
    """Runs `count` workers on `listener` until SIGTERM or SIGINT. given: see `work`."""

    def __init__(
        self, count: int, listener: socket.socket, given: Mapping[str, Any], ready: Callable[[], None]
    ) -> None:
        self._listener = listener
        self._ready = ready
        self.has_been_ready = False
        self._workers = [_Worker(number, listener, given) for number in range(1, count + 1)]
        self._stopping = False

    def run(self) -> None:
        """Returns when it was told to stop and no worker is left."""
        with self._told_by_signals() as wakeup:
            while not self._stopping:
                for worker in self._workers:
                    worker.look_after()
                if not self.has_been_ready and all(worker.serves for worker in self._workers):
                    self.has_been_ready = True
                    self._ready()
                soonest = min(worker.wants_to_be_looked_after_in() for worker in self._workers)
                awaited = [wakeup, *(item for worker in self._workers for item in worker.signs())]
                connection.wait(awaited, timeout=soonest)
            self._stop()

    def _stop(self) -> None:
        # Nobody is accepted from the moment on when the workers have closed their descriptors too.
        self._listener.close()
        until = time.monotonic() + _KILL_AFTER_S
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.wait_or_kill(until)

    @contextmanager
    def _told_by_signals(self) -> Iterator[socket.socket]:
        """A socket that becomes readable with each signal; `_stopping` is set by those that say so."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        previous = signal.set_wakeup_fd(theirs.fileno())
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            ours.close()
            theirs.close()


class _Worker:
    """One of the N places and whichever process has it now."""

    def __init__(self, number: int, listener: socket.socket, given: Mapping[str, Any]) -> None:
        self._number, self._listener, self._given = number, listener, given
        self._process: SpawnProcess | None = None
        self._beats: connection.Connection | None = None
        self._heard_at = 0.0
        self._serving_since: float | None = None
        self._failures = 0
        self._start_at = 0.0

    @property
    def serves(self) -> bool:
        return self._process is not None and self._serving_since is not None

    def look_after(self) -> None:
        """Listen to it; bury it; start the next one. Never waits."""
        self._listen()
        if self._process is not None and self._process.exitcode is not None:
            self._bury()
        if self._process is not None and time.monotonic() > self._heard_at + SILENCE_S:
            _log.error("worker_silent", worker=self._number)
            self._process.kill()
            self._heard_at = time.monotonic()  # its end will be seen
        if self._process is None and time.monotonic() >= self._start_at:
            self._start()

    def wants_to_be_looked_after_in(self) -> float:
        due = self._start_at if self._process is None else self._heard_at + SILENCE_S
        return max(0.0, due - time.monotonic())

    def signs(self) -> list[Any]:
        """What becomes readable when there is something to look after."""
        sentinel = [self._process.sentinel] if self._process is not None else []
        return sentinel + ([self._beats] if self._beats is not None else [])

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait_or_kill(self, until: float) -> None:
        if self._process is not None:
            self._process.join(max(0.0, until - time.monotonic()))
            if self._process.exitcode is None:
                _log.error("worker_killed", worker=self._number)
                self._process.kill()
                self._process.join()

    def _start(self) -> None:
        ours, theirs = _SPAWN.Pipe(duplex=False)
        os.set_blocking(ours.fileno(), False)
        process = _SPAWN.Process(
            target=work, args=(self._number, self._listener, self._given, theirs), name=f"tandem-worker-{self._number}"
        )
        self._heard_at, self._serving_since = time.monotonic(), None
        try:
            process.start()
        except OSError as error:  # no processes or descriptors left
            ours.close()
            self._failed(error=type(error).__name__)
        else:
            self._process, self._beats = process, ours
        finally:
            theirs.close()

    def _listen(self) -> None:
        if self._beats is None:
            return
        try:
            heard = os.read(self._beats.fileno(), 4096)
        except BlockingIOError:
            return
        if not heard:
            self._close_beats()
            return
        self._heard_at = time.monotonic()
        if self._serving_since is None:
            self._serving_since = self._heard_at

    def _bury(self) -> None:
        assert self._process is not None
        exit_code = self._process.exitcode
        self._process.close()
        self._process = None
        self._close_beats()
        if self._serving_since is not None and time.monotonic() - self._serving_since >= _SURVIVED_S:
            self._failures, self._start_at = 0, 0.0
            _log.warning("worker_ended", worker=self._number, exit_code=exit_code)
        else:
            self._failed(exit_code=exit_code)

    def _failed(self, **fields: Any) -> None:
        delay = min(_LONGEST_DELAY_S, 2.0**self._failures)
        self._failures += 1
        self._start_at = time.monotonic() + delay
        _log.error("worker_failed", worker=self._number, delay_s=delay, **fields)

    def _close_beats(self) -> None:
        if self._beats is not None:
            self._beats.close()
            self._beats = None
