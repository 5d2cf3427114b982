"""authenticatorClientPIN (CTAP 2.1, section 6.5): tokens by built-in user verification. There is no PIN."""

from __future__ import annotations

from enum import IntEnum

from device_sdk.biometrics import BinaryCode
from device_sdk.ctap import entities
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.session import Answer, Request
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.tokens import Permission, require_protocol
from device_sdk.ctap.user import Prompt, Purpose
from device_sdk.errors import EncodingError, NoMatch


class SubCommand(IntEnum):
    GET_KEY_AGREEMENT = 0x02
    GET_TOKEN_USING_UV = 0x06
    GET_UV_RETRIES = 0x07


_PROTOCOL, _SUB_COMMAND, _KEY_AGREEMENT, _PERMISSIONS, _RP_ID = 0x01, 0x02, 0x03, 0x09, 0x0A
_KEY_AGREEMENT_OUT, _TOKEN_OUT, _UV_RETRIES_OUT = 0x01, 0x02, 0x05
_OF_OTHER_AUTHENTICATORS = 0x08 | 0x10 | 0x20 | 0x40
"""be, lbw, acfg, pcmr: bio enrolment, large blobs, configuration, a token that outlives the session."""
_ABOUT_ONE_SITE = Permission.MAKE_CREDENTIAL | Permission.GET_ASSERTION


def client_pin(request: Request, received: Parameters) -> Answer:
    match received.uint(_SUB_COMMAND):
        case SubCommand.GET_KEY_AGREEMENT:
            require_protocol(received, _PROTOCOL)
            return {_KEY_AGREEMENT_OUT: request.session.key_agreement.public_key()}
        case SubCommand.GET_UV_RETRIES:
            return {_UV_RETRIES_OUT: request.session.verification.retries}
        case SubCommand.GET_TOKEN_USING_UV:
            return _token_using_uv(request, received)
        case _:
            raise CommandRefused(Status.CTAP2_ERR_INVALID_SUBCOMMAND)


def _token_using_uv(request: Request, received: Parameters) -> Answer:
    """getPinUvAuthTokenUsingUvWithPermissions (section 6.5.5.7.3)."""
    session = request.session
    require_protocol(received, _PROTOCOL)
    agreed_key, asked = received.map(_KEY_AGREEMENT), received.uint(_PERMISSIONS)
    if asked & _OF_OTHER_AUTHENTICATORS:
        raise CommandRefused(Status.CTAP2_ERR_UNAUTHORIZED_PERMISSION)
    permissions = Permission(asked & (_ABOUT_ONE_SITE | Permission.CREDENTIAL_MANAGEMENT))  # undefined ones are ignored
    if not permissions:
        raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
    rp_id = entities.rp_id(received, _RP_ID) if _RP_ID in received else None
    if permissions & _ABOUT_ONE_SITE and rp_id is None:
        raise CommandRefused(Status.CTAP2_ERR_MISSING_PARAMETER)
    secret = session.key_agreement.decapsulate(agreed_key)
    prompt = _prompt(permissions, rp_id)
    try:
        capture: BinaryCode | None = session.verification.capture(request.under_way, prompt)
        if capture is not None and _needs_a_match_now(request, permissions):
            session.verification.show_match(request.under_way, capture)
            capture = None
    except (NoMatch, EncodingError) as fault:
        raise CommandRefused(Status.CTAP2_ERR_UV_INVALID, fault) from None
    token = session.tokens.issue(permissions, rp_id, prompt.purpose, capture)
    return {_TOKEN_OUT: secret.encrypt(session.authenticator.rng, token)}


def _needs_a_match_now(request: Request, permissions: Permission) -> bool:
    """Where the token alone will tell of passkeys, or change them. Else the match waits for the request's signature.

    One rule for the whole vault: if it looked at the relying party's passkeys, it would tell which of them are here.
    """
    if not request.session.authenticator.credentials():
        return False  # nothing to tell of, and nothing to sign with
    return Permission.CREDENTIAL_MANAGEMENT in permissions or (
        Permission.GET_ASSERTION in permissions and request.session.is_guarded()
    )


def _prompt(permissions: Permission, rp_id: str | None) -> Prompt:
    if Permission.CREDENTIAL_MANAGEMENT in permissions:
        return Prompt(Purpose.MANAGE, rp_id)
    # A client that registers asks for both where it has to look whether an excluded passkey is here.
    return Prompt(Purpose.REGISTER if Permission.MAKE_CREDENTIAL in permissions else Purpose.SIGN_IN, rp_id)
