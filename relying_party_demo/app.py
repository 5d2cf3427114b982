"""The app factory: it alone puts the parts together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from relying_party_demo import api, face_pages, pages, phone_pages
from relying_party_demo.ceremonies import Ceremonies
from relying_party_demo.database import Database
from relying_party_demo.errors import Internal, MethodNotAllowed, NotFound, Refusal
from relying_party_demo.face_phone_port import FacePhones
from relying_party_demo.http_input import wants_page
from relying_party_demo.http_shell import HttpShell, narrow
from relying_party_demo.phone_ceremonies import PhoneCeremonies
from relying_party_demo.phone_port import Phone
from relying_party_demo.settings import RelyingPartySettings
from relying_party_demo.site import Site
from relying_party_demo.visitors import Visitors

_HERE = Path(__file__).parent
_log = logging.getLogger(__name__)


def create_app(
    settings: RelyingPartySettings,
    phone: Phone | None = None,
    faces: FacePhones | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The relying party as an ASGI app. Opens or makes the database.

    Without `phone` the pages of phones do not exist; without `faces` those for one's own face say how to get it.
    `clock` gives Unix time in seconds.
    """
    database = Database(settings.database)
    site = Site(
        settings=settings,
        database=database,
        visitors=Visitors(settings, database),
        ceremonies=Ceremonies(settings, database, clock),
        templates=Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined),
        phone=phone,
        faces=faces,
        phone_ceremonies=PhoneCeremonies(),
        clock=clock,
    )
    app = FastAPI(title=settings.rp_name, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = site
    app.include_router(api.router)
    app.include_router(pages.router)
    app.include_router(phone_pages.router)
    app.include_router(face_pages.router)
    app.mount("/static", StaticFiles(directory=_HERE / "static"))
    app.add_api_route("/healthz", _healthy)
    app.add_middleware(HttpShell, settings=settings)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_exception_handler(Exception, _failed)
    return app


def _healthy() -> dict[str, str]:
    return {"status": "ok"}


async def _refused(request: Request, error: Exception) -> Response:
    match error:
        case Refusal():
            refusal: Refusal = error
        case HTTPException(status_code=405):
            refusal = MethodNotAllowed()
        case _:
            refusal = NotFound()
    return await _answer(request, refusal)


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("a request failed: %s", type(error).__name__, exc_info=error)
    answer = await _answer(request, Internal())
    # Starlette answers a failure outside of all middleware.
    site: Site = request.app.state.site
    narrow(answer.headers, request.url.path, site.settings)
    return answer


async def _answer(request: Request, refusal: Refusal) -> Response:
    """A page for a person who loads one, a problem document for everybody else."""
    if wants_page(request):
        site: Site = request.app.state.site
        return await run_in_threadpool(pages.refusal_page, site, request, refusal)
    return JSONResponse(refusal.problem(), status_code=refusal.status, media_type="application/problem+json")
