"""The window in which a person sees who asks for what, shows a biometric, and consents or declines.

| address | what |
|---|---|
| GET /consent/TICKET | once: the page, which takes the next address, and the window's cookie |
| GET /page/ID | the page, when it is loaded again |
| POST /page/ID/consent?account=ID | the capture is the body; answers with the state once the SDK is done |
| POST /page/ID/decline | |
| POST /page/ID/wait | the state, once it changes or after four seconds |

A window is told from any other by its cookie, which no script reads and no other site's request carries, and by a token
in the page against forged requests. Other servers of 127.0.0.1 can set cookies, too; not knowing the name of this one,
none puts another in its place. The addresses themselves cannot be guessed. `HttpGuard` stands before all of it.
"""

from __future__ import annotations

import hmac
import time
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from device_sdk.agent.ceremonies import Ceremonies
from device_sdk.agent.ceremony_request import Kind
from device_sdk.agent.extension_api import LISTEN_S
from device_sdk.agent.http_bodies import BodyTooLarge, read_body
from device_sdk.agent.jobs import Job, NoSuchJob, State
from device_sdk.agent.sensors import PICTURE_BYTES_MAX
from device_sdk.authenticator.options import CreationOptions
from device_sdk.credential_info import CredentialInfo
from mpc.primitives import base64url

_TEMPLATES = Path(__file__).parent / "templates"
_CSRF_HEADER = "x-tandem-csrf"
_SMALL_BODY_BYTES = 1024
_NAME_CHARACTERS = 64
_MARKS_IN_A_ROW = 3  # written languages need no more
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols of which nothing is seen

Endpoint = Callable[[Request, Job], Awaitable[Response]]


class ConsentPages:
    """The routes of the consent window. `server`: the authentication server's address, for the page to name."""

    def __init__(self, ceremonies: Ceremonies, *, server: str) -> None:
        self._ceremonies = ceremonies
        self._book = ceremonies.book
        self._server = server
        loader = FileSystemLoader(_TEMPLATES)
        self._templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)

    def routes(self) -> list[Route]:
        return [
            Route("/consent/{ticket}", self._enter, methods=["GET"]),
            Route("/page/{page}", self._of_window(self._show), methods=["GET"]),
            Route("/page/{page}/consent", self._of_page(self._consent), methods=["POST"]),
            Route("/page/{page}/decline", self._of_page(self._decline), methods=["POST"]),
            Route("/page/{page}/wait", self._of_page(self._wait), methods=["POST"]),
        ]

    async def _enter(self, request: Request) -> Response:
        try:
            job = self._book.redeem(request.path_params["ticket"])
        except NoSuchJob:
            return self._gone()
        answer = await self._show(request, job)
        # The path keeps it from other servers on 127.0.0.1, which a browser takes for the same site.
        answer.set_cookie(
            _cookie_of(job.page.page_id), job.page.cookie, path=_address(job), httponly=True, samesite="strict"
        )
        return answer

    async def _show(self, request: Request, job: Job) -> Response:
        wanted = job.request.wanted
        accounts = self._ceremonies.accounts(job)
        over = job.state is State.OVER
        page = self._templates.get_template("consent.html").render(
            csrf=job.page.csrf,
            address=_address(job),
            state=_state(job),
            kind=job.request.kind.value,
            origin=str(job.request.origin),
            host=job.request.origin.host,
            rp_id=job.request.rp_id,
            secure=job.request.origin.scheme == "https",
            server=self._server,
            sensor=self._ceremonies.sensor.kind,
            user_name=_shown(wanted.user_name) if isinstance(wanted, CreationOptions) else "",
            user_display_name=_shown(wanted.user_display_name) if isinstance(wanted, CreationOptions) else "",
            asks_for_attestation=job.request.asks_for_attestation,
            replaced=[_account(held) for held in self._ceremonies.replaced(job)],
            accounts=[_account(held) for held in accounts],
            nothing_fits=job.request.kind is Kind.GET and not accounts,
            over=over,
        )
        return HTMLResponse(page)

    async def _consent(self, request: Request, job: Job) -> Response:
        body = await read_body(request, PICTURE_BYTES_MAX)
        try:
            account = base64url.decode(request.query_params.get("account", "")) or None
        except ValueError:
            account = None
        await self._ceremonies.consent(job, account, body)
        return JSONResponse(_state(job))

    async def _decline(self, request: Request, job: Job) -> Response:
        self._ceremonies.decline(job)
        return JSONResponse(_state(job))

    async def _wait(self, request: Request, job: Job) -> Response:
        self._ceremonies.shown(job)
        seen = (await read_body(request, _SMALL_BODY_BYTES)).decode("ascii", "replace")
        await job.wait_for_change(int(seen) if seen.isdecimal() else -1, min(LISTEN_S, self._book.left_s(job)))
        self._book.expire()
        return JSONResponse(_state(job))

    def _of_window(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """For the window with the cookie alone."""

        async def answer(request: Request) -> Response:
            try:
                page = request.path_params["page"]
                job = self._book.shown_on(page, request.cookies.get(_cookie_of(page), ""))
                return await endpoint(request, job)
            except NoSuchJob:
                return self._gone()
            except BodyTooLarge:
                return Response(status_code=413)

        return answer

    def _of_page(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """For the page's own script: it sends the token that stands in the page."""

        async def answer(request: Request, job: Job) -> Response:
            received = request.headers.get(_CSRF_HEADER, "")
            if not hmac.compare_digest(job.page.csrf.encode(), received.encode()):
                return Response(status_code=403)
            return await endpoint(request, job)

        return self._of_window(answer)

    def _gone(self) -> Response:
        return HTMLResponse(self._templates.get_template("gone.html").render(), status_code=404)


def _address(job: Job) -> str:
    return f"/page/{job.page.page_id}"


def _cookie_of(page_id: str) -> str:
    return f"tandem_{page_id}"


def _state(job: Job) -> dict[str, Any]:
    """What the page's script goes by."""
    return {
        "version": job.version,
        "state": job.state.value,
        "message": job.message,
        "succeeded": job.outcome is not None and job.outcome.succeeded,
    }


def _account(held: CredentialInfo) -> dict[str, str]:
    return {
        "id": base64url.encode(held.credential_id),
        "name": _shown(held.user_name),
        "display_name": _shown(held.user_display_name),
        "created": time.strftime("%d %B %Y", time.localtime(held.created_at)),
    }


def _shown(text: str) -> str:
    """A name that a site chose: on one line, bounded, without characters that turn, hide or cover what is around it."""
    kept: list[str] = []
    marks = 0
    for letter in text:
        category = unicodedata.category(letter)
        # Piled up, marks grow over the lines above, the origin's among them.
        marks = marks + 1 if category[0] == "M" else 0
        if letter.isspace() or letter in _BLANK:
            kept.append(" ")
        elif category[0] != "C" and marks <= _MARKS_IN_A_ROW:
            kept.append(letter)
    name = "".join(kept).strip()
    return name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
