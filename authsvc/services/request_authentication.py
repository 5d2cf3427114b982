"""Who sent this request: HTTP Message Signatures (RFC 9421) over a Content-Digest (RFC 9530), by the device's
P-256 key.

| what | must be |
|---|---|
| label, tag, alg | `tandem`, `tandem-v1`, `ecdsa-p256-sha256` |
| covered components | "@method" "@authority" "@path" "content-type" "content-digest", bare, each once |
| parameters | created, keyid, alg, tag, nonce: all of them and no others |
| created | within the policy's freshness of this server's clock, either way |

The nonce makes every signature differ; replays are harmless to the protocol (indexes and tokens are consumed
in the database) and are not looked for here. Every fault is `unauthenticated`; `field` says which part of the
request is wrong, and is "signature" for a wrong signature and an unknown key id alike.

The fields are parsed and serialised by `http_sf`. The five lines of the signature base are put together here: a general
verifier resolves any component of any message, and costs as much as the signature itself. The tests sign with an
independent implementation.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import http_sf
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from ..errors import Refused

LABEL: Final = "tandem"
TAG: Final = "tandem-v1"
ALGORITHM: Final = "ecdsa-p256-sha256"
COMPONENTS: Final = ("@method", "@authority", "@path", "content-type", "content-digest")
PARAMETERS: Final = frozenset({"created", "keyid", "alg", "tag", "nonce"})

_MAX_FIELD_CHARACTERS = 1024
_SIGNATURE_BYTES = 64
_NONCE_CHARACTERS = range(16, 65)

# The x coordinate is SHA-256("tandem nobody's key v1 1"), the first counter that gives a point: nobody knows
# its private key.
_NOBODYS_KEY = b"\x02" + hashlib.sha256(b"tandem nobody's key v1 1").digest()


def authenticate(
    *,
    method: str,
    authority: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    resolve_key: Callable[[str], bytes | None],
    now: float,
    freshness_s: float,
) -> str:
    """The verified key id of a request. Raises Refused("unauthenticated").

    headers: names in lower case. resolve_key: gives the 65-byte uncompressed point for a key id, or None; it
    is called once, and only when all but the signature is in order. now: Unix seconds.
    """
    _check_content_digest(headers.get("content-digest"), body)
    claim = _parsed(headers)
    _check_claim(claim, now, freshness_s)
    base = _signature_base(claim, method, authority, path, headers)
    key_id: str = claim.parameters["keyid"]
    point = resolve_key(key_id)
    # An unknown key id gets a key that nobody owns: the same work, then the same refusal.
    if not _verifies(point or _NOBODYS_KEY, claim.signature, base) or point is None:
        raise Refused("unauthenticated", field="signature")
    return key_id


def is_signing_key(point: bytes) -> bool:
    """Whether these are the 65 bytes of an uncompressed point on P-256."""
    return len(point) == 65 and point[0] == 4 and _public_key(point) is not None


def _check_content_digest(field: str | None, body: bytes) -> None:
    """Exactly one member, sha-256, of exactly this body, in the one way RFC 9530 writes it; constant-time."""
    expected = b"sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()) + b":"
    if field is None or not hmac.compare_digest(expected, field.encode("latin-1", "replace")):
        raise Refused("unauthenticated", field="content-digest")


@dataclass(frozen=True, slots=True)
class _Claim:
    """The member `tandem` of the two signature fields, parsed but not believed."""

    components: list[Any]
    """(name, parameters) of each covered component, in the claim's order."""
    parameters: dict[str, Any]
    signature: bytes


def _parsed(headers: Mapping[str, str]) -> _Claim:
    """Structured Fields (RFC 9651) to one claim. Other signatures beside ours, a gateway's say, are left alone."""
    members: dict[str, Any] = {}
    for name in ("signature-input", "signature"):
        text = headers.get(name, "")
        if not 0 < len(text) <= _MAX_FIELD_CHARACTERS:
            raise Refused("unauthenticated", field=name)
        try:
            members[name] = http_sf.parse(text.encode("ascii"), tltype="dictionary", on_duplicate_key=_refuse_duplicate)
        except (ValueError, KeyError, http_sf.StructuredFieldError):
            raise Refused("unauthenticated", field=name) from None
    inputs, signatures = members["signature-input"], members["signature"]
    if inputs.keys() != signatures.keys() or LABEL not in inputs:
        raise Refused("unauthenticated", field="signature-input")
    components, parameters = inputs[LABEL]
    signature, _ = signatures[LABEL]
    if type(components) is not list:
        raise Refused("unauthenticated", field="signature-input")
    if type(signature) is not bytes or len(signature) != _SIGNATURE_BYTES:
        raise Refused("unauthenticated", field="signature")
    return _Claim(components, parameters, signature)


def _check_claim(claim: _Claim, now: float, freshness_s: float) -> None:
    """Every demand that needs no key."""
    covered = [name if not parameters else None for name, parameters in claim.components]
    if len(covered) != len(COMPONENTS) or set(covered) != set(COMPONENTS):
        raise Refused("unauthenticated", field="signature-input")
    received = claim.parameters
    if set(received) != PARAMETERS or (received["alg"], received["tag"]) != (ALGORITHM, TAG):
        raise Refused("unauthenticated", field="signature-input")
    # Exactly `str`: a token or another kind of field is a different type.
    if any(type(received[name]) is not str for name in ("alg", "tag", "keyid", "nonce")):
        raise Refused("unauthenticated", field="signature-input")
    if len(received["nonce"]) not in _NONCE_CHARACTERS or type(received["created"]) is not int:
        raise Refused("unauthenticated", field="signature-input")
    if abs(received["created"] - now) > freshness_s:
        raise Refused("unauthenticated", field="created")


def _signature_base(claim: _Claim, method: str, authority: str, path: str, headers: Mapping[str, str]) -> bytes:
    """RFC 9421 section 2.5: a line for each component in the order of the claim, then its parameters, re-serialised."""
    derived = {"@method": method, "@authority": authority, "@path": path}
    lines: list[str] = []
    for name, _ in claim.components:
        value = derived.get(str(name), headers.get(str(name)))
        # Printable ASCII cannot hold a line break, so no value can pass for another line.
        if value is None or not (value.isascii() and value.isprintable()):
            raise Refused("unauthenticated", field=str(name).removeprefix("@"))
        lines.append(f'"{name}": {value}')
    parameters = http_sf.ser({LABEL: (claim.components, claim.parameters)}).removeprefix(LABEL + "=")
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


def _verifies(point: bytes, signature: bytes, base: bytes) -> bool:
    """ECDSA over P-256 with SHA-256; the signature is r ‖ s, big-endian (RFC 9421 section 3.3.4)."""
    key = _public_key(point)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        if key is not None:
            key.verify(encode_dss_signature(r, s), base, ECDSA(SHA256()))
            return True
    except InvalidSignature:
        pass
    return False


def _refuse_duplicate(key: str, context: str) -> None:
    raise ValueError("a key stands twice")


@lru_cache(maxsize=1024)
def _public_key(point: bytes) -> EllipticCurvePublicKey | None:
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    except ValueError:
        return None
