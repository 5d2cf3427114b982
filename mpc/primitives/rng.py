"""Randomness as an argument, so that tests can give a seed and nothing else can hide one."""

from __future__ import annotations

import hashlib
import secrets
from typing import Protocol


class Rng(Protocol):
    """A source of random bytes. Implementations for use must be cryptographically secure."""

    def bytes(self, count: int) -> bytes:
        """`count` fresh, uniformly random bytes."""
        ...


class SystemRng:
    """The operating system's generator."""

    def bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


class SeededRng:
    """SHAKE-256 over a seed and a call counter. For vectors and tests only: it repeats itself by design."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._calls = 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        shake = hashlib.shake_256(b"tandem seeded rng v1" + self._calls.to_bytes(8, "big") + self._seed)
        return shake.digest(count)
