"""Turns: of one enrolment one login at a time, among the threads of a process. The backends extend it to all processes
and hosts.

A turn decides nothing: the transaction that writes a verdict reads and checks everything again, whoever has the turn.
It is there so that what is refused is refused before it is computed, however many requests come at once, and so that
one enrolment occupies one processor at most.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

WAIT_S = 10.0
"""How long a turn is waited for. Others' logins take a fraction of a second."""


class TurnNotFree(Exception):
    """Another login of this enrolment goes on, and too many threads wait for theirs, or this one has waited too long.

    Nothing has been done; the request can be sent again.
    """


def turn_key(enrolment_id: bytes) -> int:
    """63 bits of an id, for numbered locks. Ids are random; two that met here would only wait for each other."""
    return int.from_bytes(enrolment_id[:8], "big") >> 1


@dataclass(slots=True)
class _Queue:
    """One key that somebody has: how many threads have it or wait for it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0


class LocalTurns:
    """most_waiting: threads that wait at the same time, for whichever key; beyond it nobody waits.

    Every waiting thread is one that serves nobody, so the bound keeps some for everybody else, however many requests
    somebody signs with however many stolen keys.
    """

    def __init__(self, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._guard = threading.Lock()
        self._queues: dict[int, _Queue] = {}
        self._waiting = 0

    @contextmanager
    def turn(self, key: int) -> Iterator[None]:
        """Held inside the block. TurnNotFree."""
        with self._guard:
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = _Queue()
            queue.threads += 1
        try:
            if not queue.lock.acquire(blocking=False):
                with self.waiting():
                    if not queue.lock.acquire(timeout=WAIT_S):
                        raise TurnNotFree
            try:
                yield
            finally:
                queue.lock.release()
        finally:
            with self._guard:
                queue.threads -= 1
                if not queue.threads:
                    del self._queues[key]

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counted as a waiting thread inside the block. TurnNotFree if there are too many."""
        with self._guard:
            if self._waiting >= self._most_waiting:
                raise TurnNotFree
            self._waiting += 1
        try:
            yield
        finally:
            with self._guard:
                self._waiting -= 1
