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
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
)
from http_message_signatures.algorithms import ECDSA_P256_SHA256

from ..errors import Refused

LABEL: Final = "tandem"
TAG: Final = "tandem-v1"
COMPONENTS: Final = ("@method", "@authority", "@path", "content-type", "content-digest")
PARAMETERS: Final = frozenset({"created", "keyid", "alg", "tag", "nonce"})

_MAX_FIELD_CHARACTERS = 1024
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
    for name in ("signature-input", "signature"):
        if not 0 < len(headers.get(name, "")) <= _MAX_FIELD_CHARACTERS:
            raise Refused("unauthenticated", field=name)

    resolver = _KeyResolver(resolve_key)
    verifier = _Verifier(resolver, now, freshness_s)
    try:
        results = verifier.verify(
            _Message(method, authority, path, headers), max_age=None, expect_tag=TAG, expect_label=LABEL
        )
    except _Unsuitable as fault:
        raise Refused("unauthenticated", field=fault.field) from None
    except HTTPMessageSignaturesException:
        # Before a key was asked for, only the form of the two fields can be wrong.
        raise Refused("unauthenticated", field="signature" if resolver.asked else "signature-input") from None
    if len(results) != 1 or not resolver.found:
        raise Refused("unauthenticated", field="signature")
    return str(results[0].parameters["keyid"])


def is_signing_key(point: bytes) -> bool:
    """Whether these are the 65 bytes of an uncompressed point on P-256."""
    return len(point) == 65 and point[0] == 4 and _public_key(point) is not None


def _check_content_digest(field: str | None, body: bytes) -> None:
    """Exactly one member, sha-256, of exactly this body, in the one way RFC 9530 writes it; constant-time."""
    expected = b"sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()) + b":"
    if field is None or not hmac.compare_digest(expected, field.encode("latin-1", "replace")):
        raise Refused("unauthenticated", field="content-digest")


class _Unsuitable(InvalidSignature):
    """A signature that is not of the form this service asks for; it was not verified."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class _Verifier(HTTPMessageVerifier):
    """The library's verifier, with this service's clock and its exact demands on what is signed."""

    def __init__(self, resolver: _KeyResolver, now: float, freshness_s: float) -> None:
        super().__init__(
            signature_algorithm=ECDSA_P256_SHA256, key_resolver=resolver, component_resolver_class=_Components
        )
        self._now = now
        self._freshness_s = freshness_s

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:
        """Called by the library first for each candidate: every demand that needs no key is made here."""
        received = [(item.value, len(item.params)) for item in sig_input]
        if len(received) != len(COMPONENTS) or set(received) != {(name, 0) for name in COMPONENTS}:
            raise _Unsuitable("signature-input")
        parameters = sig_input.params
        if set(parameters) != PARAMETERS or parameters["alg"] != ECDSA_P256_SHA256.algorithm_id:
            raise _Unsuitable("signature-input")
        if len(parameters["nonce"]) not in _NONCE_CHARACTERS:
            raise _Unsuitable("signature-input")
        if abs(parameters["created"] - self._now) > self._freshness_s:
            raise _Unsuitable("created")


class _KeyResolver(HTTPSignatureKeyResolver):
    """An unknown key id gets a key that nobody owns: the same work, then the same refusal."""

    def __init__(self, resolve_key: Callable[[str], bytes | None]) -> None:
        self._resolve_key = resolve_key
        self.asked = False
        self.found = False

    def resolve_public_key(self, key_id: str) -> EllipticCurvePublicKey:
        """The key to verify with."""
        self.asked = True
        point = self._resolve_key(key_id)
        key = None if point is None else _public_key(point)
        if key is not None:
            self.found = True
            return key
        nobodys = _public_key(_NOBODYS_KEY)
        assert nobodys is not None
        return nobodys


@dataclass(frozen=True, slots=True)
class _Message:
    """A request in the library's terms."""

    method: str
    authority: str
    path: str
    headers: Mapping[str, str]


class _Components:
    """The values of the five components. The HTTP layer has the request's parts already; a URL is not put
    together to be parsed.
    """

    __slots__ = ("_message",)

    def __init__(self, message: _Message) -> None:
        self._message = message

    def resolve(self, component: Any) -> str:
        """The value of one component; the names were checked before."""
        match str(component.value):
            case "@method":
                return self._message.method
            case "@authority":
                return self._message.authority
            case "@path":
                return self._message.path
            case name:
                value = self._message.headers.get(name)
                if value is None:
                    raise _Unsuitable(name)
                return value


@lru_cache(maxsize=1024)
def _public_key(point: bytes) -> EllipticCurvePublicKey | None:
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    except ValueError:
        return None
