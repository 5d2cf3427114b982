"""What a device reads before it enrols: a profile and this server's id. Public, not signed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ..errors import Refused
from ..policy import Policy


def router(policy: Policy) -> APIRouter:
    """GET /v1/profiles/{name}."""
    profiles = APIRouter(tags=["profiles"])
    documents: dict[str, dict[str, Any]] = {
        name: {**profile.as_dict(), "digest": profile.digest.hex(), "server_id": policy.server_id}
        for name, profile in policy.profiles.items()
    }

    @profiles.get("/v1/profiles/{name}")
    async def profile(name: str) -> dict[str, Any]:
        """The fields of a profile, its digest in hexadecimal, and the server id."""
        if name not in documents:
            raise Refused("not_found")
        return documents[name]

    return profiles
