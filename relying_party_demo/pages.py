"""The pages of the site and the forms that need no script."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from relying_party_demo.accounts import passkeys_of, remove_passkey
from relying_party_demo.ceremonies import ALGORITHM_NAMES
from relying_party_demo.errors import Malformed, Refusal
from relying_party_demo.http_input import FormBody, SessionOf, SiteOf, VisitorOf
from relying_party_demo.site import Site
from relying_party_demo.visitors import Visitor

router = APIRouter(default_response_class=HTMLResponse)


@router.get("/")
def home(site: SiteOf, visitor: VisitorOf) -> Response:
    if visitor.session:
        return RedirectResponse("/account", status_code=303)
    return page(site, visitor, "sign_in.html")


@router.get("/register")
def register(site: SiteOf, visitor: VisitorOf) -> Response:
    if visitor.session:
        return RedirectResponse("/account", status_code=303)
    return page(site, visitor, "register.html")


@router.get("/account")
def account(site: SiteOf, visitor: VisitorOf) -> Response:
    if visitor.session is None:
        return RedirectResponse("/", status_code=303)
    with site.database.transaction() as transaction:
        passkeys = passkeys_of(transaction, visitor.session.user)
    rows = [
        {
            "id": bytes_to_base64url(passkey.id),
            "algorithm": ALGORITHM_NAMES[passkey.algorithm],
            "attestation": passkey.attestation,
            "sign_count": passkey.sign_count,
            "created": moment(passkey.created_at),
            "last_used": moment(passkey.last_used_at),
            "counter_refused": moment(passkey.counter_refused_at),
            "is_current": passkey.id == visitor.session.credential_id,
        }
        for passkey in passkeys
    ]
    return page(site, visitor, "account.html", passkeys=rows)


@router.post("/passkeys/remove")
def remove(site: SiteOf, session: SessionOf, form: FormBody) -> Response:
    try:
        credential_id = base64url_to_bytes(form.get("id", ""))
    except ValueError as error:
        raise Malformed("The passkey to remove is not named properly.") from error
    with site.database.transaction() as transaction:
        remove_passkey(transaction, session.user, credential_id)
    return RedirectResponse("/account", status_code=303)


@router.post("/sign-out")
def sign_out(site: SiteOf, visitor: VisitorOf, form: FormBody) -> Response:
    answer = RedirectResponse("/", status_code=303)
    site.visitors.sign_out(visitor, answer)
    return answer


def page(site: Site, visitor: Visitor, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page with what every page needs; a new browser gets its cookie with it."""
    html = site.templates.get_template(template).render(
        rp_name=site.settings.rp_name,
        csrf=site.visitors.csrf_token(visitor),
        user=visitor.session.user if visitor.session else None,
        has_phone=site.phone is not None,
        has_faces=site.faces is not None,
        **values,
    )
    answer = HTMLResponse(html, status_code=status)
    site.visitors.greet(visitor, answer)
    return answer


def refusal_page(site: Site, request: Request, refusal: Refusal) -> HTMLResponse:
    visitor = site.visitors.recognise(request, site.clock())
    return page(site, visitor, "refusal.html", refusal.status, refusal=refusal)


def moment(unix_s: float | None) -> dict[str, str] | None:
    """A time for machines and for people, in UTC to the minute."""
    if unix_s is None:
        return None
    when = datetime.fromtimestamp(unix_s, UTC)
    return {"iso": when.isoformat(timespec="seconds"), "text": f"{when:%d %b %Y, %H:%M} UTC"}
