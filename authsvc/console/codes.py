"""One-time codes: which can still be used, issuing and withdrawing."""

from __future__ import annotations

from typing import Final

from starlette.responses import RedirectResponse, Response

from ..errors import Refused
from ..services import administration, inspection
from ..store.codes import CodeRow
from ..store.pages import MAX_PAGE
from .rendering import page
from .visits import Visit, address

PAGE_ROWS: Final = 50
LIFETIMES: Final = (3600, 4 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400)


def show(visit: Visit) -> Response:
    """Open codes, oldest first."""
    found = inspection.open_codes(visit.ctx, limit=PAGE_ROWS, cursor=visit.query.get("cursor") or None)
    return page(
        visit,
        "codes.html",
        rows=found.rows,
        is_first="cursor" not in visit.query,
        next=None if found.next is None else address("/codes", cursor=found.next.cursor()),
        withdrawn="withdrawn" in visit.query,
    )


def ask(visit: Visit) -> Response:
    """The form for an enrolment code."""
    return _form(visit, "", visit.ctx.policy.limits.enrolment_code_lifetime_s)


def issue(visit: Visit) -> Response:
    """Shows the code, this once."""
    label, told = visit.form.get("label", ""), visit.form.get("lifetime_s", "")
    lifetime_s = int(told) if told.isascii() and told.isdigit() and len(told) <= 9 else 0
    if not label:
        return _form(visit, label, lifetime_s, "Say whom the code is for.")
    try:
        issued = administration.issue_code(visit.ctx, label=label, lifetime_s=lifetime_s, by=visit.by)
    except Refused as refusal:
        if refusal.code != "malformed":
            raise
        longest = administration.MAX_LABEL_CHARACTERS
        return _form(visit, label, lifetime_s, f"The label has at most {longest} characters; the lifetime is a choice.")
    return page(
        visit,
        "code.html",
        title="Enrolment code",
        advice="One person enrols one device with this code.",
        label=label,
        code=issued.code,
        expires_at=issued.expires_at,
        back=address("/codes"),
    )


def ask_withdraw(visit: Visit) -> Response:
    """The page with the button."""
    return page(visit, "action_withdraw.html", code=_open_code(visit), refused=None)


def withdraw(visit: Visit) -> Response:
    """Back to the list afterwards."""
    inspection.withdraw(visit.ctx, _code_id(visit), by=visit.by)
    return RedirectResponse(address("/codes", withdrawn="yes"), 303)


def _form(visit: Visit, label: str, lifetime_s: int, refused: str | None = None) -> Response:
    default = visit.ctx.policy.limits.enrolment_code_lifetime_s
    return page(
        visit,
        "code_form.html",
        status=200 if refused is None else 400,
        label=label,
        lifetime_s=lifetime_s,
        lifetimes=sorted({*LIFETIMES, default}),
        longest=administration.MAX_LABEL_CHARACTERS,
        refused=refused,
    )


def _open_code(visit: Visit) -> CodeRow:
    wanted, cursor = _code_id(visit), None
    while True:
        found = inspection.open_codes(visit.ctx, limit=MAX_PAGE, cursor=cursor)
        for row in found.rows:
            if row.code_hash == wanted:
                return row
        if found.next is None:
            raise Refused("not_found")
        cursor = found.next.cursor()


def _code_id(visit: Visit) -> bytes:
    text = visit.params["code_id"]
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise Refused("not_found")
    return bytes.fromhex(text)
