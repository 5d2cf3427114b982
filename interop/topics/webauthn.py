"""The WebAuthn bytes around a login: client data, authenticator data, attestation, origins, options."""

from __future__ import annotations

from typing import Any

from device_sdk.authenticator.attestation import none_attestation, packed_self_attestation
from device_sdk.authenticator.client_data import Ceremony, build_client_data
from device_sdk.authenticator.options import parse_creation_options
from device_sdk.authenticator.origin import parse_origin, relying_party_id
from device_sdk.errors import WebAuthnError
from interop.enrolled import CREDENTIAL_ID, RP_ID
from interop.given_keys import given_key
from interop.notation import Json, topic
from mpc.login.authenticator_data import (
    AAGUID,
    PS256,
    RS256,
    assertion_data,
    cose_rsa_key,
    registration_data,
    rp_id_hash,
)
from mpc.primitives import base64url

_ORIGINS: tuple[tuple[str, str | None], ...] = (
    ("https://shop.example", None),
    ("https://shop.example", "shop.example"),
    ("https://login.shop.example:8443", "shop.example"),
    ("https://Shop.EXAMPLE", "shop.example"),
    ("https://bücher.example", "xn--bcher-kva.example"),
    ("http://localhost:8080", "localhost"),
    ("http://app.localhost", "localhost"),
    ("https://shop.example", "other.example"),
    ("https://shop.example", "login.shop.example"),
    ("https://shop.co.uk", "co.uk"),
    ("https://myshop.example", "shop.example"),
    ("http://shop.example", "shop.example"),
    ("https://192.0.2.1", None),
    ("https://shop.example/", None),
    ("https://shop.example", "Shop.example"),
)
_LISTS: tuple[tuple[int, ...], ...] = ((-257,), (-37,), (-7, -257), (-37, -257), (-257, -37), (), (-7, -8))


def vectors() -> Json:
    key = given_key(2048).public
    cose = {algorithm: cose_rsa_key(algorithm, key.modulus, key.exponent) for algorithm in (RS256, PS256)}
    created = registration_data(RP_ID, 1, CREDENTIAL_ID, cose[RS256])
    return topic(
        "WebAuthn bytes",
        "What a relying party reads and what a device checks before it captures anything. A name such as "
        "SecurityError is the DOMException that a page expects.",
        ["docs/protocol.md 6", "docs/sdk.md", "WebAuthn Level 3, 5.8.1, 6.1, 6.5.4"],
        {
            "client_data": [
                _client_data(Ceremony.CREATE, bytes(range(32)), "https://shop.example"),
                _client_data(Ceremony.GET, bytes(16), "http://localhost:8080"),
                _client_data(Ceremony.GET, b"\xff" * 17, "https://login.shop.example:8443"),
            ],
            "authenticator_data": {
                "rp_id": RP_ID,
                "rpIdHash": rp_id_hash(RP_ID).hex(),
                "aaguid": AAGUID.hex(),
                "N": key.modulus_bytes.hex(),
                "cose RS256": cose[RS256].hex(),
                "cose PS256": cose[PS256].hex(),
                "create, counter 1": created.hex(),
                "create with PS256, counter 1": registration_data(RP_ID, 1, CREDENTIAL_ID, cose[PS256]).hex(),
                "get, counter 2": assertion_data(RP_ID, 2).hex(),
                "get, counter 65,538": assertion_data(RP_ID, 65_538).hex(),
            },
            "attestation_objects": {
                "none": none_attestation().object(created).hex(),
                "packed": packed_self_attestation(RS256, bytes(256)).object(created).hex(),
                "about": "The signature in `packed` is 256 zero bytes here; login-rs256.json has a real one.",
            },
            "origins": [_origin(origin, rp_id) for origin, rp_id in _ORIGINS],
            "algorithms": [_algorithm(listed) for listed in _LISTS],
        },
    )


def _client_data(ceremony: Ceremony, challenge: bytes, origin: str) -> Json:
    made = build_client_data(ceremony, challenge, parse_origin(origin))
    return {
        "type": ceremony.value,
        "challenge": challenge.hex(),
        "origin": origin,
        "clientDataJSON": made.json.decode("utf-8"),
        "client_data_hash": made.hash.hex(),
    }


def _origin(origin: str, rp_id: str | None) -> Json:
    try:
        used = relying_party_id(parse_origin(origin), rp_id)
        return {
            "origin": origin,
            "rp_id asked for": rp_id,
            "rp_id used": used,
            "in client data": str(parse_origin(origin)),
        }
    except WebAuthnError as refusal:
        return {"origin": origin, "rp_id asked for": rp_id, "refused": refusal.dom_name}


def _algorithm(listed: tuple[int, ...]) -> Json:
    options: dict[str, Any] = {
        "rp": {"name": "Shop"},
        "user": {"id": "dQ", "name": "ann", "displayName": "Ann"},
        "challenge": base64url.encode(bytes(32)),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in listed],
    }
    try:
        return {"pubKeyCredParams": list(listed), "taken": parse_creation_options(options).algorithm}
    except WebAuthnError as refusal:
        return {"pubKeyCredParams": list(listed), "refused": refusal.dom_name}
