"""A KEK whose 32 bytes this process holds: from a file, or from a setting.

The wrapped form is AES-256-GCM, 12 bytes of nonce ‖ ciphertext ‖ 16 bytes of tag, under a key derived from the KEK. The
derivation keeps it apart from the data keys that revision 0002 of the database derived from the same KEK.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mpc.primitives.hashing import tagged_hash
from mpc.primitives.secrecy import NeverPickled

from .port import KEK_ID_BYTES, KekKind, WrappedKeyRefused

KEK_BYTES: Final = 32
_NONCE_BYTES = 12
_WRAP_INFO = b"tandem kek wrap v1"
_REVISION_0002_INFO = b"tandem at rest v1"


class RawKeyWrapper(NeverPickled):
    """A `KeyWrapper` over the key's bytes. It can always be used."""

    __slots__ = ("_cipher", "_kek", "_key_id")
    kind: KekKind = "file"

    def __init__(self, kek: bytes) -> None:
        """kek: exactly 32 uniform bytes; ValueError otherwise."""
        if len(kek) != KEK_BYTES:
            raise ValueError(f"the key-encryption key must be exactly {KEK_BYTES} bytes")
        self._kek = bytes(kek)
        self._cipher = AESGCM(_derived(self._kek, _WRAP_INFO))
        self._key_id = tagged_hash("tandem kek id file v1", self._kek)[:KEK_ID_BYTES]

    @property
    def key_id(self) -> bytes:
        """From a hash of the key."""
        return self._key_id

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data_key, context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """See `KeyWrapper`."""
        try:
            return self._cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise WrappedKeyRefused from None

    def revision_0002_key(self, owner_id: bytes) -> bytes:
        """The 32-byte data key that revision 0002 of the database used for an owner."""
        return _derived(self._kek, _REVISION_0002_INFO + owner_id)

    def close(self) -> None:
        """Nothing to end."""

    def __repr__(self) -> str:
        return "RawKeyWrapper(<hidden>)"


def _derived(kek: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(kek)
