"""What strangers send to the server, as targets: every message that it decodes, and the signature of a request.

"Signed again" has the device's own key sign what was damaged, as a malicious device would, so that what lies behind the
signature is reached.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import http_sf
from fuzz_mutations import Style
from fuzz_promise import Outcome, Target, Violation, only

from authsvc.errors import Refused
from authsvc.services.request_authentication import COMPONENTS, PARAMETERS, authenticate
from device_sdk.transport import RequestKey, signing_key_id
from device_sdk.transport.request_signing import signed_headers
from mpc.errors import DecodeError
from mpc.login.authenticator_data import RS256
from mpc.login.enrolment_messages import (
    AddCredential,
    EnrolmentFinish,
    EnrolmentStart,
    RecoveryFinish,
    RecoveryStart,
    RevokeCredential,
)
from mpc.login.history import HistoryRequest
from mpc.login.messages import Confirmation, LoginStatement, Message1, Message3, u_bytes
from mpc.login.profile import Profile
from mpc.login.provisioned_messages import AdoptKey, PairShares
from mpc.login.rotation_messages import RotationFinish, RotationSettle, RotationStart
from mpc.login.template import TemplateShare
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.ot.base_ot import SENDER_MESSAGE_BYTES
from mpc.ot.expansion import PROOF_X_BYTES, PROOF_Y_BYTES
from mpc.threshold_rsa.encodings import Algorithm

_PROFILE = Profile.from_dict({"name": "sim-512", "code_bits": 512, "threshold": 163, "encoder_id": "binary-code-v1"})
_NOW, _FRESHNESS_S = 1_800_000_000, 60
_AUTHORITY, _PATH, _BODY = "auth.example", "/v1/logins", b"a body"
_ID = bytes(range(16))
_CONFIRMATION = Confirmation(ot_index=6, token=b"t" * 32)


def all_targets() -> list[Target]:
    """All of them."""
    decoded = [_decoder(name, messages) for name, messages in _messages().items()]
    return [*decoded, _request(), _request_signed_again()]


def _messages() -> Mapping[str, Sequence[Any]]:
    """Valid ones of every type that the server reads."""
    statement: dict[str, Any] = {
        "enrolment_id": _ID,
        "base_ot_id": _ID,
        "profile_digest": _PROFILE.digest,
        "credential_id": b"c" * 32,
        "epoch": 3,
        "ot_index": 7,
        "client_data_hash": b"h" * 32,
        "device_nonce": b"n" * 32,
        "ephemeral": b"e" * 32,
    }
    get = LoginStatement(kind="get", authenticator_data=bytes(37), pss_salt=None, **statement)
    create = LoginStatement(
        kind="create",
        authenticator_data=bytes(200),
        pss_salt=bytes(32),
        confirmation=_CONFIRMATION,
        attest=True,
        **statement,
    )
    proof = {"share_tag": b"s" * 32, "proof_x": bytes(PROOF_X_BYTES), "proof_y": bytes(PROOF_Y_BYTES)}
    finish = {
        "enrolment_id": _ID,
        "base_ot_id": _ID,
        "code": "0123456789",
        "sender_message": bytes(SENDER_MESSAGE_BYTES),
    }
    template = {"share": TemplateShare(bytes(64), b"")}
    return {
        "message 1": [Message1(one, u=bytes(u_bytes(_PROFILE)), **proof) for one in (get, create)],
        "message 3": [Message3(_ID, _CONFIRMATION)],
        "enrolment start": [
            EnrolmentStart(
                profile_name="sim-512", profile_digest=_PROFILE.digest, signing_key=b"\x04" + bytes(64), code="012345"
            )
        ],
        "enrolment finish": [EnrolmentFinish(**finish, **template)],
        "credential": [
            AddCredential(
                enrolment_id=_ID,
                credential_id=b"c" * 32,
                rp_id="example.com",
                algorithm=RS256,
                modulus=b"\xc1" + bytes(254) + b"\x01",
                exponent=65537,
                key_share=b"k" * 272,
            )
        ],
        "revocation": [RevokeCredential(_ID, b"c" * 32)],
        "recovery start": [
            RecoveryStart(
                enrolment_id=_ID, code="012345", signing_key=b"\x04" + bytes(64), epoch=2, confirmation=confirmation
            )
            for confirmation in (None, _CONFIRMATION)
        ],
        "recovery finish": [RecoveryFinish(**finish)],
        "pairing": [PairShares(_ID, b"k" * 32, b"p" * 32)],
        "adoption": [AdoptKey(_ID, b"k" * 32, RS256)],
        "history request": [HistoryRequest(_ID, 9)],
        "rotation start": [RotationStart(_ID, "012345", 4)],
        "rotation finish": [RotationFinish(epoch=4, ot_index=9, **finish, **template)],
        "rotation settle": [RotationSettle(_ID, _ID)],
        "template added": [AddTemplate(_ID, 4, _PROFILE.digest, code=code, **template) for code in (None, "012345")],
        "template removed": [RemoveTemplate(_ID, 4, _PROFILE.digest, 1)],
    }


def _decoder(name: str, messages: Sequence[Any]) -> Target:
    decode: Callable[[bytes], Any] = type(messages[0]).decode
    originals = [message.encode() for message in messages]

    def check(data: bytes) -> Outcome:
        read = only(DecodeError, lambda: decode(data))
        if read is None:
            return Outcome.REFUSED
        if read.encode() != data:
            raise Violation("a message was taken that is not the encoding of what was read")
        if isinstance(read, Message1):
            only(DecodeError, lambda: read.check_fits(_PROFILE, Algorithm(RS256)) or True)
        return Outcome.UNCHANGED if data in originals else Outcome.FORGED

    return Target(name, originals, check, [Style.BYTES, Style.CBOR])


def _request() -> Target:
    """A header section, one field a line. Whoever does not have the key cannot make one that is taken."""
    key = RequestKey.generate()
    key_id = signing_key_id(enrolment_id=_ID)
    signed = signed_headers(
        method="POST",
        url=f"https://{_AUTHORITY}{_PATH}",
        content_type="application/cbor",
        body=_BODY,
        key=key,
        key_id=key_id,
        now_s=_NOW,
    )
    original = "\n".join(f"{name.lower()}: {value}" for name, value in signed.items()).encode("latin-1")
    covered = {name: _fields(original)[name] for name in ("content-type", "content-digest")}

    def check(data: bytes) -> Outcome:
        fields = _fields(data)
        taken = _taken(fields, key, key_id)
        if taken is None:
            return Outcome.REFUSED
        if taken != key_id or {name: fields.get(name) for name in covered} != covered:
            raise Violation("a request was taken that says something else than what was signed")
        return Outcome.UNCHANGED

    return Target("request", [original], check, [Style.BYTES])


def _request_signed_again() -> Target:
    """The field `signature-input` alone, which is then signed as it is."""
    key = RequestKey.generate()
    key_id = signing_key_id(enrolment_id=_ID)
    components = " ".join(f'"{name}"' for name in COMPONENTS)
    rest = f'created={_NOW};keyid="{key_id}";alg="ecdsa-p256-sha256";tag="tandem-v1";nonce="{"n" * 22}"'
    original = f"tandem=({components});{rest}".encode()
    digest = base64.b64encode(hashlib.sha256(_BODY).digest()).decode()
    values = {
        "@method": "POST",
        "@authority": _AUTHORITY,
        "@path": _PATH,
        "content-type": "application/cbor",
        "content-digest": f"sha-256=:{digest}:",
    }

    def check(data: bytes) -> Outcome:
        claim = data.decode("latin-1")
        lines = [f'"{name}": {values[name]}' for name in COMPONENTS]
        base = "\n".join([*lines, f'"@signature-params": {claim.removeprefix("tandem=")}'])
        signature = base64.b64encode(key.sign(base.encode("latin-1"))).decode()
        fields = {
            "content-type": values["content-type"],
            "content-digest": values["content-digest"],
            "signature-input": claim,
            "signature": f"tandem=:{signature}:",
        }
        taken = _taken(fields, key, key_id)
        if taken is None:
            return Outcome.REFUSED
        try:
            covered, parameters = http_sf.parse(data, tltype="dictionary")["tandem"]
        except (KeyError, TypeError, ValueError, http_sf.StructuredFieldError):
            raise Violation("a request was taken without a claim that can be read") from None
        names = sorted(str(name) for name, _ in covered)
        if taken != key_id or names != sorted(COMPONENTS) or set(parameters) != PARAMETERS:
            raise Violation("a request was taken whose signature does not cover what it must")
        if abs(parameters["created"] - _NOW) > _FRESHNESS_S:
            raise Violation("a stale request was taken")
        return Outcome.UNCHANGED if data == original else Outcome.FORGED

    return Target("request signed again", [original], check, [Style.BYTES])


def _taken(fields: Mapping[str, str], key: RequestKey, key_id: str) -> str | None:
    """The key id of an accepted request."""
    return only(
        Refused,
        lambda: authenticate(
            method="POST",
            authority=_AUTHORITY,
            path=_PATH,
            headers=fields,
            body=_BODY,
            resolve_key=lambda named: key.public_point() if named == key_id else None,
            now=_NOW,
            freshness_s=_FRESHNESS_S,
        ),
    )


def _fields(data: bytes) -> dict[str, str]:
    """As the server's frame makes them of what the HTTP parser gives: names in lower case, repeated ones joined."""
    fields: dict[str, str] = {}
    for line in data.split(b"\n"):
        raw_name, colon, raw_value = line.partition(b":")
        if colon:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip(" \t")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    return fields
