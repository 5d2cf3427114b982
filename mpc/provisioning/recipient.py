"""A recipient: the public key to which a holder's halves are sealed, in a small signed file.

The file signs itself with a key made for it and forgotten afterwards, so that no part of it can be exchanged unnoticed;
that it comes from the right holder is shown by its fingerprint, which two people read to each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.primitives.hpke import HpkePrivateKey, HpkePublicKey, HpkeSuite
from mpc.provisioning.signed_document import (
    base64url_field,
    fingerprint,
    sign_document,
    verify_document,
)
from mpc.provisioning.times import time_field, to_text
from mpc.threshold_rsa.share_package import Role

RECIPIENT_FORMAT = "tandem recipient v1"
MAX_RECIPIENT_BYTES = 16 * 1024
MAX_NAME_BYTES = 100
ENROLMENT_ID_BYTES = 16
_MAX_SERVER_ID_BYTES = 253
_SERVER_ID = re.compile(r"[!-~]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A verified recipient file. `id`: SHA-256 over what it signs. `enrolment_id`: for a device, else None."""

    role: Role
    name: str
    server_id: str
    enrolment_id: bytes | None
    public_key: HpkePublicKey
    created_at: int
    id: bytes
    document: bytes = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """What the holder reads to the dealer."""
        return fingerprint(self.id)

    @classmethod
    def decode(cls, document: bytes) -> Recipient:
        """Raises DecodeError."""
        verified = verify_document(
            document, what="recipient", expected_format=RECIPIENT_FORMAT, max_bytes=MAX_RECIPIENT_BYTES
        )
        fields = verified.fields
        role = Role(fields.text("role", at_most=10, one_of=tuple(Role)))
        suite = HpkeSuite(fields.text("suite", at_most=40, one_of=tuple(HpkeSuite)))
        recipient = cls(
            role=role,
            name=name_field(fields.text("name", at_most=MAX_NAME_BYTES)),
            server_id=_server_id(fields.text("server_id", at_most=_MAX_SERVER_ID_BYTES)),
            enrolment_id=_enrolment_id(fields.text("enrolment_id", at_most=32)) if role is Role.DEVICE else None,
            public_key=_public_key(suite, base64url_field(fields, "public_key", length=suite.public_bytes)),
            created_at=time_field(fields, "created_at"),
            id=verified.digest,
            document=document,
        )
        fields.done()
        return recipient


def new_recipient(
    *, role: Role, name: str, server_id: str, enrolment_id: bytes | None, suite: HpkeSuite, now: int
) -> tuple[HpkePrivateKey, Recipient]:
    """A fresh key and its file. `enrolment_id` for a device, None for a server; ValueError otherwise.

    now: Unix seconds. name: 1 to 100 bytes of printable text that tells people whose it is.
    """
    if (enrolment_id is None) == (role is Role.DEVICE):
        raise ValueError("a device's recipient names its enrolment, a server's none")
    key = HpkePrivateKey.generate(suite)
    values: dict[str, object] = {
        "format": RECIPIENT_FORMAT,
        "role": role.value,
        "name": name,
        "server_id": server_id,
        "suite": suite.value,
        "public_key": base64url.encode(key.public_key.raw),
        "created_at": to_text(now),
    }
    if enrolment_id is not None:
        values["enrolment_id"] = enrolment_id.hex()
    document = sign_document(values, Ed25519PrivateKey.generate())
    try:
        return key, Recipient.decode(document)
    except DecodeError as error:
        raise ValueError(str(error)) from None


def name_field(name: str) -> str:
    """A name people gave: printable, so that it cannot rewrite a terminal or a report. Raises DecodeError."""
    if not name.isprintable() or name != name.strip():
        raise DecodeError("name", "must be printable text without spaces at its ends")
    return name


def _server_id(text: str) -> str:
    if not _SERVER_ID.fullmatch(text):
        raise DecodeError("recipient.server_id", "must be printable ASCII without spaces")
    return text


def _enrolment_id(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != ENROLMENT_ID_BYTES or value.hex() != text:
        raise DecodeError("recipient.enrolment_id", "must be 32 hexadecimal digits")
    return value


def _public_key(suite: HpkeSuite, raw: bytes) -> HpkePublicKey:
    try:
        return HpkePublicKey(suite, raw)
    except ValueError:
        raise DecodeError("recipient.public_key", "is not a key of this suite") from None
