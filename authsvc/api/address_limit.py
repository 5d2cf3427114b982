"""The rate limit by address: before the token, the body, the signature and the queue for a worker."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Refused
from ..observation import current
from ..services.context import ServiceContext
from ..services.rate_limits import Rate, by_address, by_site, spend, spend_at_hand
from ..store.engine import StoreUnavailable
from .client_address import site_of
from .problems import response_to

_UNLIMITED = "/healthz"
"""Costs less than the limit. A supervisor must not take a server that is flooded for a dead one."""


class AddressLimit:
    """ASGI, inside `ObservedRequests`, which says whose request it is. Requests of nobody in particular pass.

    taker: one thread for the transactions that take tokens, so that a crowd waiting for the workers does not make the
    refusal of a flood wait too.
    """

    def __init__(self, app: ASGIApp, ctx: ServiceContext, taker: ThreadPoolExecutor) -> None:
        self._app = app
        self._ctx = ctx
        self._taker = taker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        refusal = await self._refusal(scope) if scope["type"] == "http" and scope["path"] != _UNLIMITED else None
        if refusal is not None:
            response = response_to(refusal)
            assert response is not None
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Exception | None:
        exchange = current()
        if exchange is None or exchange.address is None:
            return None
        limits = self._ctx.policy.limits
        # The network first: what it is refused must not be taken from its neighbours.
        counted = [(by_address(limits), exchange.address), (by_site(limits), site_of(exchange.address))]
        for rate, subject in counted:
            if rate is None or subject is None:
                continue
            try:
                await self._spend(rate, subject.encode())
            except Refused as refused:
                exchange.limited.append(rate.name)
                return refused
            except StoreUnavailable as unavailable:
                return unavailable
        return None

    async def _spend(self, rate: Rate, subject: bytes) -> None:
        if not spend_at_hand(self._ctx, rate, subject):
            loop = asyncio.get_running_loop()
            # Looks at hand again first: those that waited before may have brought enough for all.
            await loop.run_in_executor(self._taker, spend, self._ctx, rate, subject)
