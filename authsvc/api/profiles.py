"""What a device reads before it enrols: a profile and this server's id. Public, not signed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from mpc.login.published_profiles import MEASUREMENTS

from ..errors import Refused
from ..policy import Policy


def router(policy: Policy) -> APIRouter:
    """GET /v1/profiles/{name}."""
    profiles = APIRouter(tags=["profiles"])

    def document(name: str) -> dict[str, Any]:
        found = policy.profiles.get(name)
        if found is None:
            raise Refused("not_found")
        values = {**found.as_dict(), "digest": found.digest.hex(), "server_id": policy.server_id}
        if found.measured in MEASUREMENTS:
            values["measurement"] = MEASUREMENTS[found.measured].as_dict()
        return values

    @profiles.get("/v1/profiles/{name}")
    async def profile(name: str) -> dict[str, Any]:
        """The fields of a profile, its digest in hexadecimal, the server id, and what was measured of it."""
        # In a thread: the first request for a profile builds its circuit, which must not hold up everybody.
        return await run_in_threadpool(document, name)

    return profiles
