"""The prime-order subgroup of edwards25519, through libsodium (PyNaCl).

Points are 32 bytes as in RFC 8032; scalars 32 bytes little-endian, reduced modulo the group order.
"""

from __future__ import annotations

from nacl import bindings as sodium
from nacl.exceptions import CryptoError

from mpc.errors import Blame, ProtocolAbort
from mpc.primitives.hashing import tagged_hash_512
from mpc.primitives.rng import Rng

POINT_BYTES = 32


def random_scalar(rng: Rng) -> bytes:
    """A uniform non-zero scalar: 64 random bytes reduced, whose bias is below 2^-256."""
    while True:
        scalar = sodium.crypto_core_ed25519_scalar_reduce(rng.bytes(64))
        if scalar != bytes(32):
            return scalar


def base_times(scalar: bytes) -> bytes:
    """scalar · base point."""
    return sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)


def times(scalar: bytes, point: bytes) -> bytes:
    """scalar · point. `point` must have been checked; the identity cannot come out then."""
    return sodium.crypto_scalarmult_ed25519_noclamp(scalar, point)


def add(left: bytes, right: bytes) -> bytes:
    return sodium.crypto_core_ed25519_add(left, right)


def subtract(left: bytes, right: bytes) -> bytes:
    return sodium.crypto_core_ed25519_sub(left, right)


def checked_point(received: bytes, blame: Blame) -> bytes:
    """`received`, if it is the canonical encoding of a point of the prime-order subgroup other than the identity.

    Raises ProtocolAbort("invalid_point"): a point of small order would let the sender of it learn which of the
    two keys the other side computed.
    """
    try:
        valid = sodium.crypto_core_ed25519_is_valid_point(received)
    except (CryptoError, TypeError, ValueError):
        valid = False
    if not valid:
        raise ProtocolAbort("invalid_point", blame)
    return received


def hash_to_point(label: str, *parts: bytes) -> bytes:
    """A point whose discrete logarithm nobody knows.

    SHA-512 of the framed parts is cut into two halves of 32 bytes; libsodium's `from_uniform` (Elligator 2 on
    edwards25519, top bit as the sign, times the cofactor 8) maps each; the two points are added. One map alone
    reaches only about half of the points; the sum is indifferentiable from uniform (Brier et al., CRYPTO 2010).
    This is *not* RFC 9380's edwards25519 suite.
    """
    digest = tagged_hash_512(label, *parts)
    return sodium.crypto_core_ed25519_add(
        sodium.crypto_core_ed25519_from_uniform(digest[:32]),
        sodium.crypto_core_ed25519_from_uniform(digest[32:]),
    )
