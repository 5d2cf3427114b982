"""For load balancers and supervisors. Neither answer says more than yes or no about each part."""

from __future__ import annotations

import anyio
import anyio.to_thread
from fastapi import APIRouter
from starlette.responses import JSONResponse

from ..services.context import ServiceContext
from ..services.readiness import Readiness


def router(ctx: ServiceContext, head: str | None) -> APIRouter:
    """GET /healthz (the process is alive) and GET /readyz (it can answer logins). head: the expected database
    revision.
    """
    health = APIRouter(tags=["health"])
    asked = Readiness(ctx, head)
    # A thread of its own: a crowd that waits for the others must not make a balancer think that the server is gone.
    one_thread = anyio.CapacityLimiter(1)

    @health.get("/healthz")
    async def healthz() -> dict[str, str]:
        """200 as long as the process answers at all."""
        return {"status": "alive"}

    @health.get("/readyz")
    async def readyz() -> JSONResponse:
        """200 if the database is reachable and at the right revision, and the key-encryption key works and opens it;
        else 503. Looked at once a second at most.
        """
        checks = asked.at_hand()
        if checks is None:
            checks = await anyio.to_thread.run_sync(asked.check, limiter=one_thread)
        ready = all(checks.values())
        document = {"status": "ready" if ready else "not ready", "checks": checks}
        return JSONResponse(document, 200 if ready else 503, {"Cache-Control": "no-store"})

    return health
