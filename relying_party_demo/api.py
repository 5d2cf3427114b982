"""The endpoints of the script: WebAuthn JSON in and out. Programs may use them too."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from relying_party_demo.ceremonies import Verified
from relying_party_demo.http_input import JsonBody, SessionOf, SiteOf, VisitorOf

router = APIRouter()


@router.get("/session")
def session(site: SiteOf, visitor: VisitorOf) -> JSONResponse:
    """Who is signed in, and the CSRF token to send as X-CSRF-Token with every POST."""
    answer = JSONResponse(
        {
            "csrf": site.visitors.csrf_token(visitor),
            "user": visitor.session.user.name if visitor.session else None,
        }
    )
    site.visitors.greet(visitor, answer)
    return answer


@router.post("/register/options")
def register_options(site: SiteOf, visitor: VisitorOf, body: JsonBody) -> dict[str, Any]:
    """Body: {"username", "display_name"?}. Answer: PublicKeyCredentialCreationOptionsJSON."""
    return site.ceremonies.registration_options(visitor.browser_hash, body.get("username"), body.get("display_name"))


@router.post("/register/verify")
def register_verify(site: SiteOf, visitor: VisitorOf, body: JsonBody) -> JSONResponse:
    """Body: RegistrationResponseJSON. Makes the account and signs in."""
    verified = site.ceremonies.finish_registration(visitor.browser_hash, body)
    answer = JSONResponse(_accepted(verified))
    site.visitors.sign_in(visitor, answer, user=verified.user, credential_id=verified.credential_id, now=site.clock())
    return answer


@router.post("/login/options")
def login_options(site: SiteOf, visitor: VisitorOf, body: JsonBody) -> dict[str, Any]:
    """Body: {"username"?}. Answer: PublicKeyCredentialRequestOptionsJSON."""
    return site.ceremonies.login_options(visitor.browser_hash, body.get("username"))


@router.post("/login/verify")
def login_verify(site: SiteOf, visitor: VisitorOf, body: JsonBody) -> JSONResponse:
    """Body: AuthenticationResponseJSON. Signs in."""
    verified = site.ceremonies.finish_login(visitor.browser_hash, body)
    answer = JSONResponse(_accepted(verified))
    site.visitors.sign_in(visitor, answer, user=verified.user, credential_id=verified.credential_id, now=site.clock())
    return answer


@router.post("/passkeys/options")
def passkey_options(site: SiteOf, visitor: VisitorOf, body: JsonBody, session: SessionOf) -> dict[str, Any]:
    """Body: {}. Answer: PublicKeyCredentialCreationOptionsJSON for one more passkey of the signed-in user."""
    return site.ceremonies.addition_options(visitor.browser_hash, session.user)


@router.post("/passkeys/verify")
def passkey_verify(site: SiteOf, visitor: VisitorOf, body: JsonBody, session: SessionOf) -> dict[str, Any]:
    """Body: RegistrationResponseJSON."""
    return _accepted(site.ceremonies.finish_addition(visitor.browser_hash, session.user, body))


def _accepted(verified: Verified) -> dict[str, Any]:
    return {
        "user": verified.user.name,
        "verdict": asdict(verified.verdict),
        "next": "/account",
    }
