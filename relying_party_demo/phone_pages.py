"""The simulated phone's pages: ask it for a passkey or a signature, then see what each party saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, Response

from relying_party_demo.bit_image import Colour, bit_image
from relying_party_demo.ceremonies import Verified
from relying_party_demo.errors import Malformed, NotFound, Refusal
from relying_party_demo.http_input import FormBody, SiteOf, VisitorOf
from relying_party_demo.pages import page
from relying_party_demo.phone_ceremonies import PhoneCeremony, Sensor
from relying_party_demo.phone_port import Phone, PhoneOutcome, Who
from relying_party_demo.site import Site
from relying_party_demo.visitors import Visitor

router = APIRouter(prefix="/phone", default_response_class=HTMLResponse)

IMAGE_WIDTH = 64
PAPER: Colour = (0xF4, 0xF7, 0xFA)
INKS: dict[str, Colour] = {"device": (0x0A, 0x6C, 0x74), "server": (0x6D, 0x3B, 0xB5)}


@router.get("")
def phone_page(site: SiteOf, visitor: VisitorOf) -> Response:
    _phone(site)
    return page(site, visitor, "phone.html")


@router.post("/register")
def phone_register(site: SiteOf, visitor: VisitorOf, form: FormBody) -> Response:
    """A passkey from the phone: for a new account, or one more for the signed-in user."""
    phone = _phone(site)
    user = visitor.session.user if visitor.session else None
    if user:
        options = site.ceremonies.addition_options(visitor.browser_hash, user)
    else:
        options = site.ceremonies.registration_options(visitor.browser_hash, form.get("username"), None)
    outcome = phone.register(options, site.settings.origin)

    def finish(response: object) -> Verified:
        if user:
            return site.ceremonies.finish_addition(visitor.browser_hash, user, response)
        return site.ceremonies.finish_registration(visitor.browser_hash, response)

    return show(site, visitor, "register", "simulated", "owner", outcome, finish)


@router.post("/sign-in")
def phone_sign_in(site: SiteOf, visitor: VisitorOf, form: FormBody) -> Response:
    """A signature from the phone, with its owner's finger or an impostor's on the simulated sensor."""
    phone = _phone(site)
    who: Who
    match form.get("who"):
        case "owner":
            who = "owner"
        case "impostor":
            who = "impostor"
        case _:
            raise Malformed("The form does not say whose finger is on the sensor.")
    options = site.ceremonies.login_options(visitor.browser_hash, form.get("username"))
    outcome = phone.sign_in(options, site.settings.origin, who)

    def finish(response: object) -> Verified:
        return site.ceremonies.finish_login(visitor.browser_hash, response)

    return show(site, visitor, "sign in", "simulated", who, outcome, finish)


@router.get("/seen/{name}")
def seen_page(site: SiteOf, visitor: VisitorOf, name: str) -> Response:
    return page(site, visitor, "seen.html", name=name, ceremony=_ceremony(site, visitor, name), width=IMAGE_WIDTH)


@router.get("/seen/{name}/{party}.png")
def share_image(site: SiteOf, visitor: VisitorOf, name: str, party: Literal["device", "server"]) -> Response:
    seen = _ceremony(site, visitor, name).seen
    share = seen.device_template_share if party == "device" else seen.server_template_share
    if share is None:
        raise NotFound()
    image = bit_image(share, seen.code_bits, width=IMAGE_WIDTH, zero=PAPER, one=INKS[party])
    return Response(image, media_type="image/png")


def show(
    site: Site,
    visitor: Visitor,
    kind: Literal["register", "sign in"],
    sensor: Sensor,
    who: Who | None,
    outcome: PhoneOutcome,
    finish: Callable[[object], Verified],
) -> Response:
    """Have the site judge the phone's answer as it judges any, then lead to the page that tells of it."""
    verified, site_refusal = None, None
    if outcome.response is not None:
        try:
            verified = finish(outcome.response)
        except Refusal as refusal:
            site_refusal = refusal.detail
    name = site.phone_ceremonies.keep(
        PhoneCeremony(
            browser_hash=visitor.browser_hash,
            kind=kind,
            sensor=sensor,
            who=who,
            seen=outcome.seen,
            phone_refusal=outcome.refusal if outcome.response is None else None,
            refusal_code=outcome.refusal_code,
            site_refusal=site_refusal,
            user_name=verified.user.name if verified else None,
            verdict=verified.verdict if verified else None,
        )
    )
    answer = RedirectResponse(f"/phone/seen/{name}", status_code=303)
    if verified:
        site.visitors.sign_in(
            visitor, answer, user=verified.user, credential_id=verified.credential_id, now=site.clock()
        )
    return answer


def _phone(site: Site) -> Phone:
    if site.phone is None:
        raise NotFound("This site runs without the simulated phone.")
    return site.phone


def _ceremony(site: Site, visitor: Visitor, name: str) -> PhoneCeremony:
    ceremony = site.phone_ceremonies.find(name, visitor.browser_hash)
    if ceremony is None:
        raise NotFound("This ceremony is no longer remembered. Use the phone again.")
    return ceremony
