"""A bounded number of requests under way in a process; beyond it an answer at once, 503 with Retry-After.

A queue that grows with the load makes everybody wait, in the end for answers that nobody wants any more, and takes
memory for it. A body that is still arriving holds no place: otherwise slow strangers would occupy all of them. What
those can hold is bounded by the connections (`bounded_http`) and the largest body.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Refused
from .observation import was_limited


class Places:
    """Places for requests, on one event loop."""

    def __init__(self, most: int) -> None:
        self._left = most

    def check(self) -> None:
        """Refused("unavailable") if `one` would refuse now."""
        if self._left <= 0:
            was_limited("queue")
            raise Refused("unavailable")

    @contextmanager
    def one(self) -> Iterator[None]:
        """Held inside the block. Refused("unavailable")."""
        self.check()
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1
