"""What one process holds of the buckets of `rate_limits`: tokens taken in advance, credit given, refusals known."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

_KEPT = 20_000
_CREDIT_FOR_S = 60.0
"""Credit is given anew this long after the first of it."""
_LEASE_FOR_S = 10.0
"""Tokens not spent by then are dropped: a bucket that has filled up meanwhile would otherwise give them twice."""
_CLEAN_EVERY_S = 10.0


@dataclass(slots=True)
class _Held:
    tokens: int = 0
    leased_at: float = 0.0
    credit_used: int = 0
    owed: int = 0
    """Let in on credit and not paid for yet."""
    credit_since: float = 0.0
    refused_until: float = 0.0
    refused_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """spent: a token was at hand. wait_s: above zero if the bucket is known to be empty for so long."""

    spent: bool
    wait_s: float = 0.0


class Leases:
    """Safe to share between threads; holds its lock for some microseconds only, so an event loop may call it.

    The least recently used buckets are forgotten when there are many. Times are Unix seconds.
    """

    __slots__ = ("_cleaned_at", "_held", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._cleaned_at = 0.0

    def spend(self, key: bytes, now: float, *, credit: int) -> Found:
        """Use a token that was leased, or credit."""
        with self._lock:
            held = self._of(key)
            # A clock that was set back ends what was remembered, rather than prolonging it.
            if held.refused_at <= now < held.refused_until:
                return Found(False, held.refused_until - now)
            if held.tokens and 0 <= now - held.leased_at < _LEASE_FOR_S:
                held.tokens -= 1
                return Found(True)
            if not 0 <= now - held.credit_since < _CREDIT_FOR_S:
                held.credit_used, held.owed, held.credit_since = 0, 0, now
            if held.credit_used < credit:
                held.credit_used += 1
                held.owed += 1
                return Found(True)
            return Found(False)

    def owed(self, key: bytes) -> int:
        """How many requests were let in on credit since tokens were last taken."""
        with self._lock:
            return self._of(key).owed

    def add(self, key: bytes, now: float, *, tokens: int, paid: int) -> None:
        """Tokens taken from the bucket for later, beside those that paid for credit."""
        with self._lock:
            held = self._of(key)
            lapsed = not 0 <= now - held.leased_at < _LEASE_FOR_S
            held.tokens, held.leased_at = tokens + (0 if lapsed else held.tokens), now
            held.owed = max(0, held.owed - paid)

    def refuse_until(self, key: bytes, now: float, until: float) -> None:
        """The bucket is empty until then."""
        with self._lock:
            held = self._of(key)
            held.refused_at, held.refused_until = now, until

    def cleaning_is_due(self, now: float) -> bool:
        """True once in some seconds."""
        with self._lock:
            if 0 <= now - self._cleaned_at < _CLEAN_EVERY_S:
                return False
            self._cleaned_at = now
            return True

    def _of(self, key: bytes) -> _Held:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held()
            if len(self._held) > _KEPT:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        return held
