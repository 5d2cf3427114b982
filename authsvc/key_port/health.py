"""Whether a KEK can be used now, asked every few seconds at most, however often somebody wants to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from .port import KeyUnavailable, KeyWrapper, check_usable

ASKED_EVERY_S: Final = 5.0


class KeyHealth:
    """Remembers the last answer. Safe to share between threads; they wait for one question, and do not repeat it."""

    __slots__ = ("_at", "_clock", "_key_id", "_lock", "_usable")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._key_id: bytes | None = None
        self._usable = False

    def usable(self, wrapper: KeyWrapper) -> bool:
        """Whether the KEK wrapped and unwrapped a probe within the last few seconds."""
        with self._lock:
            if self._key_id != wrapper.key_id or self._clock() - self._at >= ASKED_EVERY_S:
                try:
                    check_usable(wrapper)
                    self._usable = True
                except KeyUnavailable:
                    self._usable = False
                # After the answer: a service that takes long must not be asked without a pause.
                self._at, self._key_id = self._clock(), wrapper.key_id
            return self._usable
