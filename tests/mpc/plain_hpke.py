"""HPKE base mode written from the formulas of RFC 9180 (sections 4 and 5), and X-Wing from its draft (section 5).

It shares nothing with what is under test but the primitives X25519, ML-KEM, AES-GCM and SHA, and serves as a second
judge of what is sealed. Slow, not constant-time, for tests only.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

X25519_KEM, XWING_KEM = 0x0020, 0x647A
AES_128, AES_256 = 1, 2
_KEY_BYTES = {AES_128: 16, AES_256: 32}
_XWING_LABEL = b"\\.//^\\"
_MLKEM_PUBLIC, _MLKEM_CIPHERTEXT = 1184, 1088


@dataclass
class Context:
    """Key and base nonce of one encapsulation."""

    key: bytes
    base_nonce: bytes
    count: int = 0

    def seal(self, plaintext: bytes, aad: bytes = b"") -> bytes:
        return AESGCM(self.key).encrypt(self._nonce(), plaintext, aad)

    def open(self, ciphertext: bytes, aad: bytes = b"") -> bytes:
        return AESGCM(self.key).decrypt(self._nonce(), ciphertext, aad)

    def _nonce(self) -> bytes:
        nonce = int.from_bytes(self.base_nonce, "big") ^ self.count
        self.count += 1
        return nonce.to_bytes(12, "big")


def key_schedule(shared_secret: bytes, info: bytes, kem: int, aead: int = AES_256) -> Context:
    """RFC 9180 section 5.1, mode 0, no PSK."""
    suite = b"HPKE" + kem.to_bytes(2, "big") + b"\x00\x01" + aead.to_bytes(2, "big")
    psk_id_hash = _labeled_extract(suite, b"", b"psk_id_hash", b"")
    context = b"\x00" + psk_id_hash + _labeled_extract(suite, b"", b"info_hash", info)
    secret = _labeled_extract(suite, shared_secret, b"secret", b"")
    key = _labeled_expand(suite, secret, b"key", context, _KEY_BYTES[aead])
    return Context(key, _labeled_expand(suite, secret, b"base_nonce", context, 12))


def x25519_decapsulated(encapsulated: bytes, private: bytes) -> bytes:
    """RFC 9180 section 4.1, Decap."""
    scalar = X25519PrivateKey.from_private_bytes(private)
    public = scalar.public_key().public_bytes_raw()
    return _x25519_secret(scalar.exchange(X25519PublicKey.from_public_bytes(encapsulated)), encapsulated + public)


def x25519_encapsulated(public: bytes) -> tuple[bytes, bytes]:
    """(shared secret, encapsulated key)."""
    scalar = X25519PrivateKey.generate()
    encapsulated = scalar.public_key().public_bytes_raw()
    agreed = scalar.exchange(X25519PublicKey.from_public_bytes(public))
    return _x25519_secret(agreed, encapsulated + public), encapsulated


def xwing_decapsulated(encapsulated: bytes, mlkem_seed: bytes, scalar: bytes) -> bytes:
    """X-Wing's Decapsulate, after the expansion of the seed."""
    ciphertext, point = encapsulated[:_MLKEM_CIPHERTEXT], encapsulated[_MLKEM_CIPHERTEXT:]
    own = X25519PrivateKey.from_private_bytes(scalar)
    agreed = own.exchange(X25519PublicKey.from_public_bytes(point))
    lattice = MLKEM768PrivateKey.from_seed_bytes(mlkem_seed).decapsulate(ciphertext)
    return _xwing_secret(lattice, agreed, point, own.public_key().public_bytes_raw())


def xwing_encapsulated(public: bytes) -> tuple[bytes, bytes]:
    """(shared secret, encapsulated key)."""
    lattice, ciphertext = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM_PUBLIC]).encapsulate()
    scalar, point = X25519PrivateKey.generate(), public[_MLKEM_PUBLIC:]
    agreed = scalar.exchange(X25519PublicKey.from_public_bytes(point))
    ephemeral = scalar.public_key().public_bytes_raw()
    return _xwing_secret(lattice, agreed, ephemeral, point), ciphertext + ephemeral


def _x25519_secret(agreed: bytes, kem_context: bytes) -> bytes:
    suite = b"KEM" + X25519_KEM.to_bytes(2, "big")
    eae_prk = _labeled_extract(suite, b"", b"eae_prk", agreed)
    return _labeled_expand(suite, eae_prk, b"shared_secret", kem_context, 32)


def _xwing_secret(lattice: bytes, agreed: bytes, ephemeral: bytes, point: bytes) -> bytes:
    return hashlib.sha3_256(lattice + agreed + ephemeral + point + _XWING_LABEL).digest()


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, value: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + suite + label + value, "sha256")


def _labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    # One block of HKDF-Expand is enough: nothing longer than 32 bytes is asked for.
    return hmac.digest(key, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01", "sha256")[:length]
