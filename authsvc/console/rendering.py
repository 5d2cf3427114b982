"""Templates to responses. Every value is escaped; what the templates add to the language stands here."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from mpc.primitives import base64url

from ..errors import PROBLEMS
from ..observation import told
from ..tokens import Scope
from . import words
from .safeguards import FORM_TOKEN
from .static_files import MARK_ADDRESS, STYLE_ADDRESS
from .visits import PREFIX, Visit, address

_OWN_REFUSALS: Final = {
    "signed_out": (
        401,
        "You are signed out",
        "Your session has ended, and nothing was changed. Sign in and try again.",
    ),
    "not_our_form": (
        403,
        "Form refused",
        "The form does not belong to this session, and nothing was changed. Open the page anew and try again.",
    ),
    "forbidden": (403, "Not allowed with your token", "None of your token's scopes allows this. Nothing was changed."),
    "not_found": (404, "Not found", "There is no such page, or what it was about is gone."),
}


def page(visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
    """A page for a visitor."""
    principal = None if visit.session is None else visit.session.principal
    content = _ENVIRONMENT.get_template(template).render(
        here=visit.path.removeprefix(PREFIX),
        principal=principal,
        form_token=None if visit.session is None else visit.session.csrf_token,
        may_operate=visit.may(Scope.OPERATOR),
        may_provision=visit.may(Scope.PROVISIONER),
        server_id=visit.ctx.policy.server_id,
        now=visit.ctx.clock(),
        **values,
    )
    return HTMLResponse(content, status)


def refusal_page(visit: Visit, code: str, *, request_id: str | None = None) -> Response:
    """A page that says why not."""
    told(code)
    problem = PROBLEMS.get(code)
    if code in _OWN_REFUSALS:
        status, title, detail = _OWN_REFUSALS[code]
    else:
        assert problem is not None
        status, title, detail = problem.status, problem.title, problem.detail
    return page(visit, "refusal.html", status, title=title, detail=detail, code=code, request_id=request_id)


def _moment(value: float | None) -> Markup:
    """A time in UTC, for people and machines."""
    if value is None:
        return Markup('<span class="soft">never</span>')
    try:
        at = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return Markup('<span class="soft">out of range</span>')
    return Markup('<time datetime="{}">{} <span class="clock">{}</span></time>').format(
        at.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{at.day} {at:%b %Y}", f"{at:%H:%M:%S}"
    )


def _ago(value: float | None, now: float) -> str:
    """How long ago, in one unit."""
    if value is None:
        return "never"
    return ("in " if value > now else "") + words.duration(abs(now - value)) + ("" if value > now else " ago")


def _short(text: str, kept: int = 8) -> Markup:
    """An id of which only the beginning is shown; the whole of it stands in the title."""
    return Markup('<code title="{}">{}…</code>').format(text, text[:kept])


def _in_groups(text: str) -> Markup:
    """A long id that may wrap, every four characters."""
    return Markup("<wbr>").join(escape(text[at : at + 4]) for at in range(0, len(text), 4))


_ENVIRONMENT: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    moment=_moment,
    ago=_ago,
    short=_short,
    groups=_in_groups,
    b64=base64url.encode,
    thousands=lambda value: f"{value:,}".replace(",", "\u202f"),
    loaded=json.loads,
    duration=words.duration,
)
_ENVIRONMENT.globals.update(
    address=address,
    prefix=PREFIX,
    style_address=STYLE_ADDRESS,
    mark_address=MARK_ADDRESS,
    form_token_name=FORM_TOKEN,
    event_words=words.event_words,
    status_words=words.status_words,
    credential_words=words.credential_words,
    reason_words=words.reason_words,
    attempt_words=words.attempt_words,
    detail_words=words.detail_words,
    purpose_words=words.purpose_words,
)
