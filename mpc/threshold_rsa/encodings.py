"""EMSA encodings with SHA-256 (RFC 8017 sections 9.1.1 and 9.2).

Each side hashes and encodes the message itself, from typed fields. A number supplied by the peer is never
exponentiated: it could be chosen to turn a partial signature into a signature on something else.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum

PSS_SALT_BYTES = 32
_HASH_BYTES = 32
_DIGEST_INFO_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")


class Algorithm(IntEnum):
    """COSE algorithm numbers (RFC 8812, RFC 8230)."""

    RS256 = -257
    PS256 = -37


def encode_message(algorithm: Algorithm, message: bytes, pss_salt: bytes | None, modulus_bits: int) -> int:
    """EM as an integer below 2^modulus_bits.

    `pss_salt` is exactly 32 bytes for PS256 and None for RS256; anything else is a ValueError.
    """
    if algorithm is Algorithm.RS256:
        if pss_salt is not None:
            raise ValueError("RS256 takes no salt")
        return int.from_bytes(_pkcs1_v1_5(message, (modulus_bits + 7) // 8), "big")
    if pss_salt is None or len(pss_salt) != PSS_SALT_BYTES:
        raise ValueError("PS256 takes a salt of 32 bytes")
    return int.from_bytes(_pss(message, pss_salt, modulus_bits - 1), "big")


def _pkcs1_v1_5(message: bytes, length: int) -> bytes:
    # EM = 00 01 FF…FF 00 ‖ DigestInfo
    digest_info = _DIGEST_INFO_SHA256 + hashlib.sha256(message).digest()
    return b"\x00\x01" + b"\xff" * (length - len(digest_info) - 3) + b"\x00" + digest_info


def _pss(message: bytes, salt: bytes, bits: int) -> bytes:
    # M' = 0^8 ‖ SHA-256(M) ‖ salt;  H = SHA-256(M');  EM = (DB ⊕ MGF1(H)) ‖ H ‖ BC,  DB = 0…0 01 ‖ salt
    length = (bits + 7) // 8
    h = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    db = bytes(length - PSS_SALT_BYTES - _HASH_BYTES - 2) + b"\x01" + salt
    mask = _mgf1(h, len(db))
    masked = bytearray(a ^ b for a, b in zip(db, mask, strict=True))
    masked[0] &= 0xFF >> (8 * length - bits)
    return bytes(masked) + h + b"\xbc"


def _mgf1(seed: bytes, length: int) -> bytes:
    blocks = (
        hashlib.sha256(seed + counter.to_bytes(4, "big")).digest() for counter in range(-(-length // _HASH_BYTES))
    )
    return b"".join(blocks)[:length]
