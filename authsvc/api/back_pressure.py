"""The bound of `places` around the framework: beyond it an answer at once, 503 with Retry-After."""

from __future__ import annotations

from contextlib import ExitStack

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Refused
from ..places import Places
from .problems import problem_response

_ALWAYS_ANSWERED = ("/healthz", "/readyz")
"""Cost nothing and wait for nobody; a process that is busy is alive, and ready as before."""


class BoundedRequests:
    """ASGI, innermost: at most so many requests at the same time in the framework behind it.

    No body may still be arriving then: `AdminGate` has read those of its routes, and no other route reads one.
    """

    def __init__(self, app: ASGIApp, places: Places) -> None:
        self._app = app
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ANSWERED:
            await self._app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                held.enter_context(self._places.one())
            except Refused as refused:
                await problem_response(refused.code)(scope, receive, send)
                return

            async def giving_back(message: Message) -> None:
                # The work is done. Whoever is slow to take the answer holds a connection, as with a body.
                held.close()
                await send(message)

            await self._app(scope, receive, giving_back)
