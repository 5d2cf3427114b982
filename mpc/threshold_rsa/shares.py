"""Additive shares of the private exponent over the integers, and their refresh.

    d = d1 + d2,   d2 uniform in [0, 2^B),   B = bitlength(N) + 128,   d1 = d − d2 (negative)

No modulus is involved, so neither side needs φ(N), and 128 spare bits hide d in d1 up to 2^-128.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.errors import DecodeError
from mpc.parameters import TANDEM_SUITE_1
from mpc.primitives.hashing import tagged_stream
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.public_key import PublicKey

_VERSION = 1
_POSITIVE, _NEGATIVE = 0, 1


@dataclass(frozen=True, slots=True)
class KeyShare(NeverPickled):
    """One share with the key it belongs to. Never shorter than N, never wider than B + 64 bits."""

    key: PublicKey
    value: int = field(repr=False)

    def __post_init__(self) -> None:
        # A short d2 means that d1 shows the top bits of d, and Coppersmith's method then factors N.
        if abs(self.value).bit_length() < self.key.bits:
            raise DecodeError("key_share", "is shorter than the modulus: refused, it would give the key away")
        if abs(self.value).bit_length() > _magnitude_bytes(self.key) * 8:
            raise DecodeError("key_share", "is wider than the stored width: rotate this key")

    def to_bytes(self) -> bytes:
        """Version, sign, magnitude big-endian, at the fixed width of B + 64 bits."""
        sign = _NEGATIVE if self.value < 0 else _POSITIVE
        return bytes([_VERSION, sign]) + abs(self.value).to_bytes(_magnitude_bytes(self.key), "big")

    @classmethod
    def from_bytes(cls, key: PublicKey, data: bytes) -> KeyShare:
        if len(data) != share_bytes(key):
            raise DecodeError("key_share", "has the wrong length for this modulus")
        if data[0] != _VERSION:
            raise DecodeError("key_share.version", "unknown version")
        if data[1] not in (_POSITIVE, _NEGATIVE):
            raise DecodeError("key_share.sign", "must be 0 or 1")
        magnitude = int.from_bytes(data[2:], "big")
        return cls(key, -magnitude if data[1] == _NEGATIVE else magnitude)


def split(rng: Rng, key: PublicKey, private_exponent: int) -> tuple[KeyShare, KeyShare]:
    """(device's d1, server's d2). The caller erases the exponent."""
    bits = share_bits(key)
    while True:
        server = int.from_bytes(rng.bytes((bits + 7) // 8), "big") >> (-bits % 8)
        # Shorter than N happens once in 2^128 draws; drawing again keeps the loading rule free of exceptions.
        if server.bit_length() >= key.bits:
            return KeyShare(key, private_exponent - server), KeyShare(key, server)


def refreshed(share: KeyShare, offset: int) -> KeyShare:
    """The share plus an offset; the other side subtracts the same, so the sum stays d."""
    return KeyShare(share.key, share.value + offset)


def refresh_offset(key: PublicKey, session_id: bytes, rho: bytes, credential_id: bytes) -> int:
    """r_d, uniform in [0, 2^B), from 32 fresh bytes of the server. Added to d2, subtracted from d1."""
    bits = share_bits(key)
    stream = tagged_stream("tandem refresh v1", (bits + 7) // 8, session_id, rho, b"key", credential_id)
    return int.from_bytes(stream, "big") >> (-bits % 8)


def share_bits(key: PublicKey) -> int:
    """B: the length of the random share."""
    return key.bits + TANDEM_SUITE_1.share_margin_bits


def share_bytes(key: PublicKey) -> int:
    """Stored size: version, sign, magnitude of B + 64 bits."""
    return 2 + _magnitude_bytes(key)


def _magnitude_bytes(key: PublicKey) -> int:
    return (share_bits(key) + TANDEM_SUITE_1.share_growth_bits + 7) // 8
