"""The manifest of a ceremony: who made which keys, when, for whom, with the hash of every file beside it.

A ceremony is a folder:

    manifest.json                                   signed with the key of the ceremony
    report.html                                     the same for people
    recipients/<fingerprint>.json                   the recipient files that the halves were sealed to
    server/<key id>.share                           the server's halves
    device/<enrolment id>/<key id>.share            the devices' halves

Key ids are RFC 7638 thumbprints in base64url, enrolment ids are in hexadecimal. Where a file lies follows from what it
is, so no path from a manifest is ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpc.errors import DecodeError
from mpc.parameters import MAX_EXPONENT, MAX_MODULUS_BITS
from mpc.primitives import base64url
from mpc.primitives.codec import Fields
from mpc.provisioning.recipient import MAX_NAME_BYTES, Recipient, name_field
from mpc.provisioning.signed_document import (
    base64url_field,
    key_fingerprint,
    sign_document,
    verify_document,
)
from mpc.provisioning.times import time_field, to_text
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import (
    CEREMONY_ID_BYTES,
    KEY_ID_BYTES,
    RECIPIENT_ID_BYTES,
    Role,
    rp_id_field,
)

MANIFEST_FORMAT = "tandem ceremony manifest v1"
MANIFEST_NAME = "manifest.json"
REPORT_NAME = "report.html"
RECIPIENTS_COMPARED = "recipients compared"
"""The parameter that tells how the recipients' fingerprints were compared before the keys were dealt."""
MAX_MANIFEST_BYTES = 48 * 1024 * 1024
MAX_KEYS = 20_000
_MAX_PEOPLE = 100
_HASH_BYTES = 32
_PLAIN = re.compile(r"[A-Za-z0-9 .,:;()/+_-]{1,200}", re.ASCII)


class CeremonyKind(StrEnum):
    """Where the keys of a ceremony come from."""

    GENERATE = "generate"
    IMPORT = "import"
    REWRAP = "rewrap"


@dataclass(frozen=True, slots=True)
class DealtKey:
    """One key: its public part, and the recipients (by id) of its two halves."""

    key: PublicKey
    server: bytes
    device: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a ceremony says it made. Times in Unix seconds.

    revision: 0 for new keys, one more for each rewrap; previous: `SignedManifest.digest` of the one before, None at
    revision 0.
    tool: names and versions. parameters: what else was chosen, as text. files: SHA-256 of every file but the manifest.
    """

    ceremony_id: bytes
    kind: CeremonyKind
    revision: int
    previous: bytes | None
    operators: tuple[str, ...]
    witnesses: tuple[str, ...]
    started_at: int
    finished_at: int
    tool: Mapping[str, str]
    parameters: Mapping[str, str]
    rp_id: str
    not_after: int | None
    recipients: tuple[bytes, ...]
    keys: tuple[DealtKey, ...]
    files: Mapping[str, bytes]

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """The signed file."""
        values: dict[str, Any] = {
            "format": MANIFEST_FORMAT,
            "ceremony_id": self.ceremony_id.hex(),
            "kind": self.kind.value,
            "revision": self.revision,
            "operators": list(self.operators),
            "witnesses": list(self.witnesses),
            "started_at": to_text(self.started_at),
            "finished_at": to_text(self.finished_at),
            "tool": dict(self.tool),
            "parameters": dict(self.parameters),
            "rp_id": self.rp_id,
            "recipients": [base64url.encode(recipient) for recipient in self.recipients],
            "keys": [
                {
                    "key_id": base64url.encode(dealt.key.key_id),
                    "n": base64url.encode(dealt.key.modulus_bytes),
                    "e": dealt.key.exponent,
                    "server": base64url.encode(dealt.server),
                    "device": base64url.encode(dealt.device),
                }
                for dealt in self.keys
            ],
            "files": {path: digest.hex() for path, digest in self.files.items()},
        }
        if self.previous is not None:
            values["previous"] = self.previous.hex()
        if self.not_after is not None:
            values["not_after"] = to_text(self.not_after)
        return sign_document(values, key)


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A manifest whose signature verifies, and the key that it verifies with.

    digest: SHA-256 over all that was signed. White space and the order of members are not in it, so that a courier who
    writes the file anew changes nothing.
    """

    manifest: Manifest
    signing_key: bytes
    digest: bytes

    @property
    def fingerprint(self) -> str:
        """Of the key of the ceremony: what witnesses wrote down, and what a holder compares."""
        return key_fingerprint(self.signing_key)

    @classmethod
    def decode(cls, data: bytes) -> SignedManifest:
        """Raises DecodeError."""
        verified = verify_document(data, what="manifest", expected_format=MANIFEST_FORMAT, max_bytes=MAX_MANIFEST_BYTES)
        try:
            return cls(_read(verified.fields), verified.signing_key, verified.digest)
        except ValueError as error:
            raise DecodeError("manifest", str(error)) from None


def server_share_path(key_id: bytes) -> str:
    """Where the server's half lies in the folder of a ceremony."""
    return f"server/{base64url.encode(key_id)}.share"


def device_share_path(recipient: Recipient, key_id: bytes) -> str:
    """Where the half for this device lies."""
    if recipient.enrolment_id is None:
        raise ValueError("the recipient is not a device")
    return f"device/{recipient.enrolment_id.hex()}/{base64url.encode(key_id)}.share"


def share_path(recipient: Recipient, key_id: bytes) -> str:
    """Where the half for this recipient lies."""
    return server_share_path(key_id) if recipient.role is Role.SERVER else device_share_path(recipient, key_id)


def recipient_path(recipient: Recipient) -> str:
    """Where the recipient's own file lies."""
    return f"recipients/{recipient.fingerprint}.json"


def _read(fields: Fields) -> Manifest:
    revision = fields.uint("revision", at_most=10_000)
    manifest = Manifest(
        ceremony_id=_hex(fields, "ceremony_id", CEREMONY_ID_BYTES),
        kind=CeremonyKind(fields.text("kind", at_most=20, one_of=tuple(CeremonyKind))),
        revision=revision,
        previous=_hex(fields, "previous", _HASH_BYTES) if fields.has("previous") else None,
        operators=_people(fields, "operators"),
        witnesses=_people(fields, "witnesses"),
        started_at=time_field(fields, "started_at"),
        finished_at=time_field(fields, "finished_at"),
        tool=_plain_texts(fields.fields("tool")),
        parameters=_plain_texts(fields.fields("parameters")),
        rp_id=rp_id_field(fields.text("rp_id", at_most=253)),
        not_after=time_field(fields, "not_after") if fields.has("not_after") else None,
        recipients=tuple(
            _recipient_id(text) for text in fields.texts("recipients", at_most=MAX_KEYS, length_at_most=60)
        ),
        keys=tuple(_read_key(entry) for entry in fields.each("keys", at_most=MAX_KEYS)),
        files=dict(_read_files(fields.fields("files"))),
    )
    fields.done()
    if (manifest.previous is None) != (revision == 0) or (manifest.kind is CeremonyKind.REWRAP) != (revision > 0):
        raise DecodeError("manifest.revision", "and kind and previous do not fit each other")
    if not manifest.keys:
        raise DecodeError("manifest.keys", "names no key")
    if manifest.finished_at < manifest.started_at:
        raise DecodeError("manifest.finished_at", "is before started_at")
    if len({dealt.key.modulus for dealt in manifest.keys}) != len(manifest.keys):
        raise DecodeError("manifest.keys", "names a key twice")
    return manifest


def _read_key(fields: Fields) -> DealtKey:
    modulus = base64url_field(fields, "n", at_most=MAX_MODULUS_BITS // 8)
    dealt = DealtKey(
        key=PublicKey.from_bytes(modulus, fields.uint("e", at_most=MAX_EXPONENT)),
        server=base64url_field(fields, "server", length=RECIPIENT_ID_BYTES),
        device=base64url_field(fields, "device", length=RECIPIENT_ID_BYTES),
    )
    if base64url_field(fields, "key_id", length=KEY_ID_BYTES) != dealt.key.key_id:
        raise DecodeError("manifest.keys.key_id", "is not the thumbprint of the public key beside it")
    fields.done()
    return dealt


def _read_files(fields: Fields) -> Iterator[tuple[str, bytes]]:
    for path, digest in fields.remaining().items():
        if type(digest) is not str:
            raise DecodeError("manifest.files", "must name a SHA-256 in hexadecimal for each file")
        yield path, _from_hex("manifest.files", digest, _HASH_BYTES)


def _people(fields: Fields, name: str) -> tuple[str, ...]:
    return tuple(name_field(text) for text in fields.texts(name, at_most=_MAX_PEOPLE, length_at_most=MAX_NAME_BYTES))


def _plain_texts(fields: Fields) -> dict[str, str]:
    values = fields.remaining()
    for name, value in values.items():
        if not (type(value) is str and _PLAIN.fullmatch(name) and _PLAIN.fullmatch(value)):
            raise DecodeError("manifest", "tool and parameters are short plain texts")
    return values


def _recipient_id(text: str) -> bytes:
    return base64url_field(Fields({"recipients": text}, "manifest"), "recipients", length=RECIPIENT_ID_BYTES)


def _hex(fields: Fields, name: str, length: int) -> bytes:
    return _from_hex(f"manifest.{name}", fields.text(name, at_most=2 * length), length)


def _from_hex(what: str, text: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length or value.hex() != text:
        raise DecodeError(what, f"must be {2 * length} hexadecimal digits")
    return value
