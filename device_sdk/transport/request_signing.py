"""Signs a request with the device's ES256 key (HTTP Message Signatures, RFC 9421; Content-Digest, RFC 9530).

One signature, label `tandem`, over exactly `"@method" "@authority" "@path" "content-type" "content-digest"`,
with the parameters created, keyid, alg, tag, nonce.
"""

from __future__ import annotations

import base64
import datetime
import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import HTTPMessageSigner
from http_message_signatures.algorithms import ECDSA_P256_SHA256

from mpc.primitives import base64url
from mpc.primitives.rng import Rng, SystemRng

LABEL = "tandem"
TAG = "tandem-v1"
COVERED_COMPONENTS = ("@method", "@authority", "@path", "content-type", "content-digest")
SCALAR_BYTES = 32
PUBLIC_POINT_BYTES = 65
NONCE_BYTES = 16

_CURVE = ec.SECP256R1()
_ECDSA = ec.ECDSA(SHA256())
_SIGNER = HTTPMessageSigner(signature_algorithm=ECDSA_P256_SHA256)  # holds no key; safe to share


class RequestKey:
    """The P-256 key with which a device signs its requests."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("a request key is on the curve P-256")
        self._key = key

    @classmethod
    def generate(cls) -> RequestKey:
        return cls(ec.generate_private_key(_CURVE))

    @classmethod
    def from_scalar(cls, scalar: bytes) -> RequestKey:
        """Load the 32-byte big-endian scalar kept in the vault. Raises `ValueError` out of range."""
        if len(scalar) != SCALAR_BYTES:
            raise ValueError("the scalar of a request key is 32 bytes")
        try:
            return cls(ec.derive_private_key(int.from_bytes(scalar), _CURVE))
        except (ValueError, UnsupportedAlgorithm):
            # The library's own text may quote the number.
            raise ValueError("the scalar of a request key is out of range") from None

    def to_scalar(self) -> bytes:
        """The 32-byte big-endian scalar, for the vault and nothing else."""
        return self._key.private_numbers().private_value.to_bytes(SCALAR_BYTES)

    def public_point(self) -> bytes:
        """The 65-byte uncompressed public point (SEC 1 section 2.3.3), for the server."""
        return self._key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature r || s (RFC 9421 section 3.3.4)."""
        return ECDSA_P256_SHA256.signature_from_der(self._key.sign(message, _ECDSA))

    def __repr__(self) -> str:
        return "RequestKey(...)"


def signing_key_id(*, enrolment_id: bytes | None = None, public_point: bytes | None = None) -> str:
    """The keyid of a signature: 22 characters of base64url without padding.

    enrolment_id: the server's 16-byte id, once there is one. public_point: before that, the 65-byte point,
    of which the SHA-256 is taken. Give exactly one. Raises `ValueError` otherwise or for another length.
    """
    if enrolment_id is not None and public_point is None and len(enrolment_id) == 16:
        return base64url.encode(enrolment_id)
    if public_point is not None and enrolment_id is None and len(public_point) == PUBLIC_POINT_BYTES:
        return base64url.encode(hashlib.sha256(public_point).digest())[:22]
    raise ValueError("give either a 16-byte enrolment id or a 65-byte public point")


def signed_headers(
    *,
    method: str,
    url: str,
    content_type: str,
    body: bytes,
    key: RequestKey,
    key_id: str,
    now_s: float,
    rng: Rng | None = None,
) -> dict[str, str]:
    """Content-Type, Content-Digest, Signature-Input and Signature of one request.

    url: absolute; its authority and path are what the server must see. now_s: Unix time in seconds, signed as
    `created`. rng: draws the nonce of 16 bytes; the operating system's unless given.
    """
    request = _Request(method, url, {"Content-Type": content_type})
    prepared = _SIGNER.prepare(
        request,
        key_id=key_id,
        created=datetime.datetime.fromtimestamp(now_s, tz=datetime.UTC),
        nonce=base64url.encode((rng or SystemRng()).bytes(NONCE_BYTES)),
        label=LABEL,
        tag=TAG,
        covered_component_ids=COVERED_COMPONENTS,
        body=body,
    )
    # The two fields are written here, not by the library's `apply`: that parses and rebuilds everything
    # once more to notice a request changed between the two steps, and this one cannot change.
    signature = base64.b64encode(key.sign(prepared.signature_base)).decode()
    return {
        **request.headers,
        "Signature-Input": f"{LABEL}={prepared.signature_params}",
        "Signature": f"{LABEL}=:{signature}:",
    }


class _Request:
    """What the signing library reads of a request; it adds Content-Digest to the headers."""

    __slots__ = ("headers", "method", "url")

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers = headers
