"""Hybrid public-key encryption to one recipient (HPKE, RFC 9180, base mode, single shot).

Base mode says nothing about the sender: who sealed something is told by the signed manifest around it.
Private keys are raw bytes; for the hybrid suite the ML-KEM-768 seed (64 bytes, FIPS 203) comes before the X25519
scalar, and the ML-KEM-768 encapsulation key (1,184 bytes) before the X25519 point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from mpc.primitives.secrecy import NeverPickled

_X25519_BYTES = 32
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
_ANY_SCALAR = X25519PrivateKey.from_private_bytes(bytes(range(32)))


class HpkeSuite(StrEnum):
    """The suites in use; the value is the name in files."""

    X25519 = "x25519"
    """DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM: RFC 9180."""
    MLKEM768_X25519 = "mlkem768-x25519"
    """The hybrid KEM of ML-KEM-768 and X25519, HKDF-SHA256, AES-256-GCM: for secrets that must outlast the first
    large quantum computers. Safe as long as one of the two is."""

    @property
    def public_bytes(self) -> int:
        """Length of a public key."""
        return _X25519_BYTES + (_MLKEM_PUBLIC_BYTES if self is HpkeSuite.MLKEM768_X25519 else 0)

    @property
    def private_bytes(self) -> int:
        """Length of a private key."""
        return _X25519_BYTES + (_MLKEM_SEED_BYTES if self is HpkeSuite.MLKEM768_X25519 else 0)


_SUITES = {
    HpkeSuite.X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    HpkeSuite.MLKEM768_X25519: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}


class OpenFailed(Exception):
    """The ciphertext does not open: it was altered, is for another key, or for another purpose."""


@dataclass(frozen=True, slots=True)
class HpkePublicKey:
    """What is sealed to. ValueError if the bytes are no key of this suite."""

    suite: HpkeSuite
    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != self.suite.public_bytes:
            raise ValueError(f"a public key of suite {self.suite} has {self.suite.public_bytes} bytes")
        _library_public(self)
        try:
            _ANY_SCALAR.exchange(X25519PublicKey.from_public_bytes(self.raw[-_X25519_BYTES:]))
        except ValueError:
            # With a point of small order everybody knows the agreement.
            raise ValueError("the recipient's public key is not usable") from None

    def seal(self, plaintext: bytes, *, info: bytes) -> bytes:
        """Encapsulated key ‖ ciphertext ‖ tag. `info` must be the same to open it."""
        return _SUITES[self.suite].encrypt(plaintext, _library_public(self), info=info)


@dataclass(frozen=True, slots=True)
class HpkePrivateKey(NeverPickled):
    """The recipient's secret. ValueError if the bytes are no key of this suite."""

    suite: HpkeSuite
    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != self.suite.private_bytes:
            raise ValueError(f"a private key of suite {self.suite} has {self.suite.private_bytes} bytes")

    @classmethod
    def generate(cls, suite: HpkeSuite) -> HpkePrivateKey:
        """A fresh key of the library's generator. ValueError where it was built without this suite."""
        raw = X25519PrivateKey.generate().private_bytes_raw()
        if suite is HpkeSuite.MLKEM768_X25519:
            try:
                raw = MLKEM768PrivateKey.generate().private_bytes_raw() + raw
            except UnsupportedAlgorithm:
                raise ValueError("this build of the cryptography library has no ML-KEM: use suite x25519") from None
        return cls(suite, raw)

    @property
    def public_key(self) -> HpkePublicKey:
        scalar = X25519PrivateKey.from_private_bytes(self.raw[-_X25519_BYTES:])
        raw = scalar.public_key().public_bytes_raw()
        if self.suite is HpkeSuite.MLKEM768_X25519:
            raw = MLKEM768PrivateKey.from_seed_bytes(self.raw[:-_X25519_BYTES]).public_key().public_bytes_raw() + raw
        return HpkePublicKey(self.suite, raw)

    def open(self, sealed: bytes, *, info: bytes) -> bytes:
        """The plaintext. Raises OpenFailed, whatever the reason."""
        try:
            key: X25519PrivateKey | MLKEM768X25519PrivateKey
            key = X25519PrivateKey.from_private_bytes(self.raw[-_X25519_BYTES:])
            if self.suite is HpkeSuite.MLKEM768_X25519:
                key = MLKEM768X25519PrivateKey(MLKEM768PrivateKey.from_seed_bytes(self.raw[:-_X25519_BYTES]), key)
            return _SUITES[self.suite].decrypt(sealed, key, info=info)
        except (InvalidTag, ValueError, UnsupportedAlgorithm):
            raise OpenFailed("the sealed value does not open with this key") from None


def _library_public(key: HpkePublicKey) -> X25519PublicKey | MLKEM768X25519PublicKey:
    point = X25519PublicKey.from_public_bytes(key.raw[-_X25519_BYTES:])
    if key.suite is HpkeSuite.X25519:
        return point
    try:
        return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(key.raw[:-_X25519_BYTES]), point)
    except UnsupportedAlgorithm:
        raise ValueError("this build of the cryptography library has no ML-KEM: use suite x25519") from None
