"""The agent as an ASGI application: it alone puts the parts together."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from device_sdk.agent.ceremonies import Ceremonies
from device_sdk.agent.consent_pages import ConsentPages
from device_sdk.agent.extension_api import ExtensionApi
from device_sdk.agent.extension_identity import extension_origin
from device_sdk.agent.http_guard import HttpGuard
from device_sdk.agent.pairing import PairingKey, ProvenRequests

_STATIC = Path(__file__).parent / "static"


def create_application(
    ceremonies: Ceremonies,
    key: PairingKey,
    *,
    port: int,
    listening_since: float,
    server: str,
    profile: str,
    wall_clock: Callable[[], float] = time.time,
) -> Starlette:
    """`server` and `profile`: the enrolment's, to be shown. `wall_clock`: Unix seconds, for the age of requests.

    `listening_since`: by that clock, when the port was taken.
    """
    host = f"127.0.0.1:{port}"
    proven = ProvenRequests(key, wall_clock, host=host, since=listening_since)
    api = ExtensionApi(ceremonies, key, proven, profile=profile)
    pages = ConsentPages(ceremonies, server=server)
    guard = Middleware(
        HttpGuard,
        host=host,
        extension_origin=extension_origin(),
        camera=ceremonies.sensor.kind == "pictures",
    )
    static = Mount("/static", StaticFiles(directory=_STATIC))
    return Starlette(routes=[*api.routes(), *pages.routes(), static], middleware=[guard])
