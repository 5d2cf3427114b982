"""Signing in and out."""

from __future__ import annotations

import re
from typing import Final

from starlette.responses import RedirectResponse, Response

from ..services import console_sessions
from .rendering import page
from .safeguards import set_cookie
from .visits import PREFIX, Visit

_NEXT: Final = re.compile(r"/console(/[A-Za-z0-9_-]+)*\Z")


def ask(visit: Visit) -> Response:
    """The form. It may be shown to somebody who is signed in: a link in another program's window brings no cookie."""
    return page(visit, "sign_in.html", next=_next(visit.query), refused=False)


def do(visit: Visit) -> Response:
    """Sign in. Every failure looks alike."""
    target = _next(visit.form)
    value = console_sessions.sign_in(visit.ctx, visit.form.get("token", ""), instead_of=visit.cookie)
    if value is None:
        return page(visit, "sign_in.html", status=403, next=target, refused=True)
    response = RedirectResponse(target, 303)
    set_cookie(response, visit.secure, value)
    return response


def leave(visit: Visit) -> Response:
    """Sign out."""
    console_sessions.sign_out(visit.ctx, visit.who)
    response = RedirectResponse(f"{PREFIX}/sign-in", 303)
    set_cookie(response, visit.secure, None)
    return response


def _next(fields: object) -> str:
    """A page of the console to go on to: nothing but a plain path of ours, whatever was asked for."""
    wanted = fields.get("next", "") if isinstance(fields, dict) else ""
    return wanted if _NEXT.match(wanted) and wanted != f"{PREFIX}/sign-in" else PREFIX
