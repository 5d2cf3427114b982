"""For load balancers and supervisors. Neither answer says more than yes or no about each part."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import JSONResponse

from ..services.context import ServiceContext
from ..services.readiness import readiness


def router(ctx: ServiceContext, head: str | None) -> APIRouter:
    """GET /healthz (the process is alive) and GET /readyz (it can answer logins). head: the expected database
    revision.
    """
    health = APIRouter(tags=["health"])

    @health.get("/healthz")
    async def healthz() -> dict[str, str]:
        """200 as long as the process answers at all."""
        return {"status": "alive"}

    @health.get("/readyz")
    def readyz() -> JSONResponse:
        """200 if the database is reachable and at the right revision, and the key-encryption key works and opens it;
        else 503.
        """
        checks = readiness(ctx, head)
        ready = all(checks.values())
        document = {"status": "ready" if ready else "not ready", "checks": checks}
        return JSONResponse(document, 200 if ready else 503, {"Cache-Control": "no-store"})

    return health
