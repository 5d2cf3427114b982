"""The console as one ASGI layer: who is it, may he, is it his own form; only then a page.

Which page asks for what stands in `pages.PAGES`. An address that does not stand there is answered like one that does
by somebody who is not signed in: with the way to the sign-in page.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from urllib.parse import quote

import structlog
from starlette._utils import get_route_path
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Refused
from ..logs import where
from ..observation import current, database_failed
from ..places import Places
from ..services.console_sessions import current_session
from ..services.context import ServiceContext
from ..store.engine import StoreUnavailable
from .pages import Page, find_page
from .rendering import refusal_page
from .safeguards import comes_from_here, cookie_of, guard, has_form_token, is_secure
from .visits import PREFIX, Visit, parse_fields, read_form

_log = structlog.get_logger()


class Console:
    """ASGI: answers everything under /console and passes everything else on.

    places: one is held while a thread works for a visitor, none while his form arrives.
    """

    def __init__(self, app: ASGIApp, ctx: ServiceContext, places: Places) -> None:
        self._app = app
        self._ctx = ctx
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = get_route_path(scope) if scope["type"] == "http" else ""
        if path != PREFIX and not path.startswith(PREFIX + "/"):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        visit = Visit(self._ctx, path, is_secure(request), {}, {}, {}, None, cookie_of(request))
        try:
            response = await self._answer(request, visit)
        except ClientDisconnect:
            response = Response(status_code=400)  # nobody is there to read it
        await guard(response, request)(scope, receive, send)

    async def _answer(self, request: Request, visit: Visit) -> Response:
        try:
            # Files have no visitor, and an unreachable database must not take the style from the page that tells it.
            page, params = find_page(visit.path.removeprefix(PREFIX))
            if page is not None:
                # As the framework's router does, for whoever tells the request later.
                request.scope["route"] = replace(page, path=PREFIX + page.path)
            visit = replace(visit, params=params)
            if page is None or not page.is_file:
                with self._places.one():
                    session = await run_in_threadpool(current_session, self._ctx, visit.cookie)
                visit = replace(visit, session=session)
            return await self._let_through(request, visit, page)
        except Refused as refusal:
            return refusal_page(visit, refusal.code)
        except StoreUnavailable as error:
            database_failed()
            _log.error("store_unavailable", exception=type(error.__cause__).__name__, where=where(error))
            return refusal_page(visit, "unavailable")
        except ClientDisconnect:
            raise
        except Exception as error:
            exchange = current()
            request_id = secrets.token_hex(8) if exchange is None else exchange.request_id
            _log.error("internal_error", request_id=request_id, exception=type(error).__name__, where=where(error))
            return refusal_page(visit, "internal", request_id=request_id)

    async def _let_through(self, request: Request, visit: Visit, page: Page | None) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        if visit.session is None and (page is None or not page.is_open):
            if method != "GET":
                return refusal_page(visit, "signed_out")
            target = quote(visit.path, safe="/")
            return RedirectResponse(f"{PREFIX}/sign-in" + ("" if target == PREFIX else f"?next={target}"), 303)
        if page is None:
            raise Refused("not_found")
        view = page.views.get(method)
        if view is None:
            response = refusal_page(visit, "method_not_allowed")
            response.headers["Allow"] = ", ".join(sorted(page.views))
            return response
        if view.needs is not None and not visit.who.principal.scopes & view.needs:
            raise Refused("forbidden")
        form: dict[str, str] = {}
        if method == "POST":
            if not comes_from_here(request):
                return refusal_page(visit, "not_our_form")
            form = await read_form(request)
            # Before there is a session there is nothing to bind a form to; the check above stands alone there.
            if visit.session is not None and not page.is_open and not has_form_token(visit.session, form):
                return refusal_page(visit, "not_our_form")
        query = parse_fields(request.scope.get("query_string", b""))
        with self._places.one():
            return await run_in_threadpool(view.show, replace(visit, query=query, form=form))
