"""What sites ask for, by py_webauthn, which also judges the answers."""

from __future__ import annotations

import json
from typing import Any

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
)

from device_sdk import Device

CHALLENGE = bytes(range(32))


def creation_options(name: str, *, excluded: list[bytes] | None = None, **changes: Any) -> dict[str, Any]:
    options = webauthn.generate_registration_options(
        rp_id="localhost",
        rp_name="Site",
        user_name=name,
        user_id=name.encode(),
        challenge=CHALLENGE,
        authenticator_selection=AuthenticatorSelectionCriteria(resident_key=ResidentKeyRequirement.REQUIRED),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=each) for each in excluded or []],
    )
    return {**json.loads(webauthn.options_to_json(options)), **changes}


def request_options(*allowed: bytes, **changes: Any) -> dict[str, Any]:
    options = webauthn.generate_authentication_options(
        rp_id="localhost",
        challenge=CHALLENGE,
        allow_credentials=[PublicKeyCredentialDescriptor(id=each) for each in allowed],
    )
    return {**json.loads(webauthn.options_to_json(options)), **changes}


def passkey_of(device: Device, name: str) -> bytes:
    """The newest passkey of this account."""
    return [held.credential_id for held in device.credentials() if held.user_name == name][-1]


def registered(
    response: dict[str, Any], origin: str
) -> webauthn.registration.verify_registration_response.VerifiedRegistration:
    """Verified, or an exception."""
    return webauthn.verify_registration_response(
        credential=response, expected_challenge=CHALLENGE, expected_rp_id="localhost", expected_origin=origin
    )


def credential_id(response: dict[str, Any]) -> bytes:
    return base64url_to_bytes(response["id"])


def spelt(credential: bytes) -> str:
    return bytes_to_base64url(credential)
