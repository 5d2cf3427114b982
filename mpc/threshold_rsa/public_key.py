"""The RSA public key as a type that cannot hold a bad value."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mpc.parameters import MAX_EXPONENT, MAX_MODULUS_BITS, MIN_MODULUS_BITS, PUBLIC_EXPONENT
from mpc.primitives import base64url


@dataclass(frozen=True, slots=True)
class PublicKey:
    """N (odd, 2,048 to 4,096 bits) and e (odd, 3 to 2^31 − 1). Raises ValueError otherwise.

    Keys made by Tandem have e = 65537; another e comes only with a key that a security team imported on purpose.
    """

    modulus: int
    exponent: int = PUBLIC_EXPONENT

    def __post_init__(self) -> None:
        size_fits = MIN_MODULUS_BITS <= self.modulus.bit_length() <= MAX_MODULUS_BITS
        if self.modulus < 0 or not size_fits or not self.modulus & 1:
            raise ValueError(f"the modulus must be odd with {MIN_MODULUS_BITS} to {MAX_MODULUS_BITS} bits")
        if not 3 <= self.exponent <= MAX_EXPONENT or not self.exponent & 1:
            raise ValueError("the public exponent must be odd, from 3 to 2^31 − 1")

    @classmethod
    def from_bytes(cls, modulus: bytes, exponent: int) -> PublicKey:
        """From N, big-endian without leading zero bytes."""
        if modulus[:1] == b"\x00":
            raise ValueError("the modulus must not begin with a zero byte")
        return cls(int.from_bytes(modulus, "big"), exponent)

    @property
    def bits(self) -> int:
        return self.modulus.bit_length()

    @property
    def size_bytes(self) -> int:
        """Length of N, of a signature and of a partial signature."""
        return (self.bits + 7) // 8

    @property
    def modulus_bytes(self) -> bytes:
        return self.modulus.to_bytes(self.size_bytes, "big")

    @property
    def digest(self) -> bytes:
        """SHA-256 of N, big-endian."""
        return hashlib.sha256(self.modulus_bytes).digest()

    @property
    def key_id(self) -> bytes:
        """The JWK thumbprint with SHA-256 (RFC 7638): 32 bytes that name the key everywhere."""
        exponent = self.exponent.to_bytes((self.exponent.bit_length() + 7) // 8, "big")
        # RFC 7638 section 3.2: the required members in lexical order, no white space.
        members = f'{{"e":"{base64url.encode(exponent)}","kty":"RSA","n":"{base64url.encode(self.modulus_bytes)}"}}'
        return hashlib.sha256(members.encode("ascii")).digest()
