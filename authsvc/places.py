"""A bounded number of requests under way in a process; beyond it an answer at once, 503 with Retry-After.

A queue that grows with the load makes everybody wait, in the end for answers that nobody wants any more, and takes
memory for it. A body that is still arriving holds no place: otherwise slow strangers would occupy all of them. What
those can hold is bounded by the connections (`bounded_http`) and the largest body.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import Refused


class Places:
    """Places for requests, on one event loop."""

    def __init__(self, most: int) -> None:
        self._left = most

    @property
    def is_one_free(self) -> bool:
        """Whether `one` would not refuse now."""
        return self._left > 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Held inside the block. Refused("unavailable")."""
        if not self.is_one_free:
            raise Refused("unavailable")
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1
