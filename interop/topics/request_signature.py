"""Signed requests: what the SDK sends, the base that is signed, and what the server refuses."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from authsvc.errors import Refused
from authsvc.services.request_authentication import authenticate
from device_sdk.transport import RequestKey, signing_key_id
from device_sdk.transport.request_signing import COVERED_COMPONENTS, signed_headers
from interop.drawing import Draws
from interop.enrolled import ENROLMENT_ID
from interop.notation import Json, topic
from interop.topics.enrolment import given_request_key
from mpc.login.messages import Confirmation, Message3

_AUTHORITY = "auth.example:8443"
_PATH = "/v1/confirmations"
_NOW = 1_700_000_000
_FRESHNESS_S = 60.0


class _Deterministic:
    """A P-256 key that signs as RFC 6979 says, so that a signature can stand in a file. Any other verifies as well."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.curve = key.curve

    def sign(self, message: bytes, algorithm: object) -> bytes:
        return self._key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._key, name)


def vectors() -> Json:
    draws = Draws("tandem vectors: request signature")
    with draws.named("request key", "token", "nonce", "another request key") as drawn:
        plain = given_request_key(draws)
        body = Message3(ENROLMENT_ID, Confirmation(1, draws.bytes(32))).encode()
        scalar = int.from_bytes(plain.to_scalar(), "big")
        key = RequestKey(cast(Any, _Deterministic(ec.derive_private_key(scalar, ec.SECP256R1()))))
        headers = signed_headers(
            method="POST",
            url=f"https://{_AUTHORITY}{_PATH}",
            content_type="application/cbor",
            body=body,
            key=key,
            key_id=signing_key_id(enrolment_id=ENROLMENT_ID),
            now_s=_NOW,
            rng=draws,
        )
        other = given_request_key(draws)
    return topic(
        "Signed requests",
        "HTTP Message Signatures (RFC 9421) over a Content-Digest (RFC 9530). ECDSA is randomised: this signature was "
        "made as RFC 6979 says so that it can stand here, and yours need only verify. The server builds the base from "
        "the parsed fields, in the order in which the components are listed.",
        ["docs/protocol.md 4"],
        {
            "seed": draws.seed,
            "draws": drawn,
            "key": {
                "private scalar": key.to_scalar().hex(),
                "public point": key.public_point().hex(),
                "keyid": signing_key_id(enrolment_id=ENROLMENT_ID),
                "keyid of POST /v1/enrolments": signing_key_id(public_point=key.public_point()),
            },
            "request": {
                "method": "POST",
                "authority": _AUTHORITY,
                "path": _PATH,
                "body": body.hex(),
                "headers": headers,
                "signature base": _base(headers),
            },
            "accepted": [
                {"about": about, "headers": changed, "server's clock": now, "keyid": _key_of(changed, body, key, now)}
                for about, changed, now in _accepted(headers)
            ],
            "refused": [
                {
                    "about": about,
                    "headers": changed,
                    "server's clock": now,
                    "field": _refusal(changed, sent, known, now),
                }
                for about, changed, sent, known, now in _refused(headers, body, key, other)
            ],
        },
    )


def _base(headers: Mapping[str, str]) -> str:
    """As in RFC 9421 section 2.5; the tests verify the signature over it."""
    derived = {"@method": "POST", "@authority": _AUTHORITY, "@path": _PATH}
    fields = {name.lower(): value for name, value in headers.items()}
    lines = [f'"{name}": {derived.get(name, fields.get(name))}' for name in COVERED_COMPONENTS]
    parameters = fields["signature-input"].removeprefix("tandem=")
    return "\n".join([*lines, f'"@signature-params": {parameters}'])


def _accepted(headers: dict[str, str]) -> list[tuple[str, dict[str, str], int]]:
    gateway = {
        **headers,
        "Signature-Input": headers["Signature-Input"] + ', gw=("@method");created=1',
        "Signature": headers["Signature"] + ", gw=:AAAA:",
    }
    return [
        ("as sent", headers, _NOW),
        ("59 seconds old", headers, _NOW + 59),
        ("59 seconds ahead", headers, _NOW - 59),
        ("beside a signature of somebody else's", gateway, _NOW),
    ]


def _refused(
    headers: dict[str, str], body: bytes, key: RequestKey, other: RequestKey
) -> list[tuple[str, dict[str, str], bytes, RequestKey, int]]:
    signed = headers["Signature-Input"]
    signature = base64.b64decode(headers["Signature"].removeprefix("tandem=:").removesuffix(":"))
    flipped = base64.b64encode(bytes([signature[0] ^ 1]) + signature[1:]).decode()

    def with_input(before: str, after: str) -> dict[str, str]:
        assert before in signed
        return {**headers, "Signature-Input": signed.replace(before, after)}

    return [
        ("another body", headers, body + b"\0", key, _NOW),
        ("another content type", {**headers, "Content-Type": "application/json"}, body, key, _NOW),
        ("61 seconds old", headers, body, key, _NOW + 61),
        ("a bit of the signature is another", {**headers, "Signature": f"tandem=:{flipped}:"}, body, key, _NOW),
        ("signed by another key", headers, body, other, _NOW),
        ("a component is missing", with_input(' "content-digest"', ""), body, key, _NOW),
        ("a component too many", with_input(' "content-digest"', ' "content-digest" "host"'), body, key, _NOW),
        ("no nonce", with_input(";nonce=", ";once="), body, key, _NOW),
        ("another tag", with_input("tandem-v1", "tandem-v2"), body, key, _NOW),
        ("another label", with_input("tandem=(", "other=("), body, key, _NOW),
        ("no signature", {name: value for name, value in headers.items() if name != "Signature"}, body, key, _NOW),
    ]


def _key_of(headers: Mapping[str, str], body: bytes, key: RequestKey, now: float) -> str:
    return authenticate(
        method="POST",
        authority=_AUTHORITY,
        path=_PATH,
        headers={name.lower(): value for name, value in headers.items()},
        body=body,
        resolve_key=lambda key_id: key.public_point() if key_id == signing_key_id(enrolment_id=ENROLMENT_ID) else None,
        now=now,
        freshness_s=_FRESHNESS_S,
    )


def _refusal(headers: Mapping[str, str], body: bytes, key: RequestKey, now: float) -> str:
    try:
        _key_of(headers, body, key, now)
    except Refused as refused:
        return str(refused.extension["field"])
    raise AssertionError("the server took a request that it should refuse")
