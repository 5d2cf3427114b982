"""A bounded number of requests under way in a process; beyond it an answer at once, 503 with Retry-After.

A queue that grows with the load makes everybody wait, in the end for answers that nobody wants any more, and takes
memory for it. A body that is still arriving holds no place: otherwise slow strangers would occupy all of them. What
those can hold is bounded by the connections (`bounded_http`) and the largest body.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Refused
from .problems import problem_response

_ALWAYS_ANSWERED = "/healthz"
"""Costs nothing and waits for nothing; a process that is busy is alive."""


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


class BoundedRequests:
    """ASGI: at most so many requests at the same time in the application behind it."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._places = Places(most)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] == _ALWAYS_ANSWERED:
            await self._app(scope, receive, send)
            return
        if not self._places.is_one_free:
            await problem_response("unavailable")(scope, receive, send)
            return
        with self._places.one():
            await self._app(scope, receive, send)
