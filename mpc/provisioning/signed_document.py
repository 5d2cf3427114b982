"""JSON documents that carry their own Ed25519 signature (RFC 8032) and that people can read.

Signed are the bytes of RFC 8785 (JSON Canonicalization Scheme) of the document without its member "signature", after
the label "tandem signed document v1". White space and the order of members are therefore free; everything else is not.
Who the signer is, the document cannot say: compare the fingerprint of its key, or of itself, over another channel.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mpc.errors import Blame, DecodeError, ProtocolAbort
from mpc.primitives import base64url
from mpc.primitives.codec import Fields
from mpc.primitives.group import checked_point
from mpc.primitives.hashing import framed

SIGNING_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_LABEL = "tandem signed document v1"
_FINGERPRINT_GROUPS = 8
_GROUP_CHARACTERS = 4


@dataclass(frozen=True, slots=True)
class VerifiedDocument:
    """A document whose signature verifies. `digest`: SHA-256 over all that was signed."""

    fields: Fields
    signing_key: bytes
    digest: bytes
    values: dict[str, Any] = field(repr=False)


def sign_document(values: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    """The document, indented, with the members "signing_key" and "signature" (base64url) at its end.

    Values may be text, integers up to 2^53, booleans, null, lists and maps of these.
    """
    document = {**values, "signing_key": base64url.encode(key.public_key().public_bytes_raw())}
    document["signature"] = base64url.encode(key.sign(_signed_bytes(document)))
    return json.dumps(document, indent=2, ensure_ascii=False).encode("utf-8") + b"\n"


def verify_document(data: bytes, *, what: str, expected_format: str, max_bytes: int) -> VerifiedDocument:
    """Parse strictly and verify. Takes "format" from the fields, which are otherwise as yet unread.

    Raises DecodeError, naming `what`: not JSON, a duplicate member, a number that is not an integer, too large,
    another format, or a signature that does not verify.
    """
    values = _load(data, what=what, max_bytes=max_bytes)
    received = values.get("format")
    if received != expected_format:
        known = isinstance(received, str) and received.rpartition(" v")[0] == expected_format.rpartition(" v")[0]
        problem = "has a version that this program does not know; update it" if known else f"is not a {expected_format}"
        raise DecodeError(what, problem)
    fields = Fields(values, what)
    fields.text("format", at_most=80)
    signing_key = _signing_key(fields, what)
    signature = base64url_field(fields, "signature", length=_SIGNATURE_BYTES)
    unsigned = {name: value for name, value in values.items() if name != "signature"}
    try:
        signed = _signed_bytes(unsigned)
    except (ValueError, RecursionError):  # lone surrogates, integers beyond 2^53, nesting without end
        raise DecodeError(what, "has a value that cannot have been signed") from None
    try:
        Ed25519PublicKey.from_public_bytes(signing_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise DecodeError(f"{what}.signature", "does not verify: the document was altered") from None
    return VerifiedDocument(fields, signing_key, hashlib.sha256(signed).digest(), unsigned)


def fingerprint(digest: bytes) -> str:
    """160 bits of a SHA-256 digest in base32, in groups of four letters that two people can read to each other."""
    letters = base64.b32encode(digest[:20]).decode("ascii")
    groups = (letters[at : at + _GROUP_CHARACTERS] for at in range(0, len(letters), _GROUP_CHARACTERS))
    return "-".join(groups)


def key_fingerprint(signing_key: bytes) -> str:
    """The fingerprint of an Ed25519 public key: of SHA-256 over its 32 bytes."""
    return fingerprint(hashlib.sha256(signing_key).digest())


def normal_fingerprint(text: str) -> str:
    """A fingerprint as typed by a person, in the form that `fingerprint` gives. ValueError if it is none."""
    letters = "".join(text.upper().replace("-", " ").split())
    right_length = len(letters) == _FINGERPRINT_GROUPS * _GROUP_CHARACTERS
    # Only ASCII: upper() turns some other letters, such as the dotless i, into letters of the alphabet.
    if not text.isascii() or not right_length or set(letters) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"):
        raise ValueError("a fingerprint has eight groups of four letters or digits")
    return fingerprint(base64.b32decode(letters))


def base64url_field(fields: Fields, name: str, *, length: int | None = None, at_most: int = 2**16) -> bytes:
    """A byte string written in base64url without padding, in its one encoding. Raises DecodeError."""
    try:
        value = base64url.decode(fields.text(name, at_most=at_most * 2))
    except ValueError:  # JSON can also name half of a surrogate pair, which has no encoding
        value = b""
    if not value or (length is not None and len(value) != length) or len(value) > at_most:
        raise DecodeError(name, "must be base64url without padding" + (f", {length} bytes" if length else ""))
    return value


def _signing_key(fields: Fields, what: str) -> bytes:
    signing_key = base64url_field(fields, "signing_key", length=SIGNING_KEY_BYTES)
    try:
        # Under a key of small order one signature fits many documents, so its fingerprint would bind nobody.
        return checked_point(signing_key, Blame.PEER)
    except ProtocolAbort:
        raise DecodeError(f"{what}.signing_key", "is not a usable Ed25519 key") from None


def _signed_bytes(unsigned: Mapping[str, Any]) -> bytes:
    return framed(_LABEL, rfc8785.dumps(dict(unsigned)))


def _load(data: bytes, *, what: str, max_bytes: int) -> dict[str, Any]:
    if len(data) > max_bytes:
        raise DecodeError(what, f"is larger than {max_bytes} bytes")
    try:
        values = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError):
        raise DecodeError(what, "is not JSON as this program writes it") from None
    if type(values) is not dict:
        raise DecodeError(what, "is not a JSON object")
    return values


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a member occurs twice")
    return values


def _refuse_number(_: str) -> NoReturn:
    raise ValueError("only integers are used here")
