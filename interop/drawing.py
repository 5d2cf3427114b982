"""Seeded randomness with a note of what each draw is for.

    draw n of a stream = SHAKE-256("tandem seeded rng v1" ‖ n as u64 big-endian ‖ seed in ASCII), n = 1, 2, …

That is `SeededRng`. It is for vectors and tests: no setting of any program selects it, and this room is in no wheel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mpc.primitives.rng import SeededRng


class Draws:
    """An `Rng` that knows beforehand what it will be asked for. One stream: one party of one vector file."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self._rng = SeededRng(seed.encode("ascii"))
        self._calls = 0
        self._expected: deque[str] = deque()
        self._noted: list[dict[str, Any]] = []

    @contextmanager
    def named(self, *purposes: str) -> Iterator[list[dict[str, Any]]]:
        """Within the block exactly these draws are made, in this order; gives the notes, filled as they happen.

        AssertionError if the code under way draws more, or less: then the vectors do not tell the truth any more.
        """
        self._expected = deque(purposes)
        self._noted = []
        yield self._noted
        assert not self._expected, f"never drawn: {', '.join(self._expected)}"

    def bytes(self, count: int) -> bytes:
        assert self._expected, f"{count} bytes were drawn that no vector tells of"
        drawn = self._rng.bytes(count)
        self._calls += 1
        self._noted.append({"draw": self._calls, "for": self._expected.popleft(), "value": drawn.hex()})
        return drawn
