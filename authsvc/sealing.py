"""Secret columns at rest: AES-256-GCM under a data key of each owner (an enrolment, a recipient of this server's, or
the server itself).

| bytes | content |
|---|---|
| 0 | version, 1 |
| 1–12 | random nonce |
| 13– | ciphertext and 16-byte tag |

The associated data names the column and the row (and the epoch, where a value belongs to one), so a value
that somebody with write access to the database moves to another row, column or epoch does not open there.
Rolling a whole row back is not noticed here; that is what epochs shared with the device are for.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpc.primitives.secrecy import NeverPickled

DATA_KEY_BYTES: Final = 32
SERVER_OWNER: Final = bytes(16)
"""The owner of what belongs to the server itself. Enrolments' ids are random, so none is this one."""
_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16


class SealingError(Exception):
    """A sealed value did not open: it was altered or moved, its data key is gone, or it was sealed under another key.

    Restore the row from a backup, or the key-encryption key that belongs to this database.
    """


class DataKey(NeverPickled):
    """One owner's key. Safe to share between threads.

    A random 96-bit nonce under a key of one owner: with the few thousand values an enrolment ever has, a repeated nonce
    is out of reach.
    """

    __slots__ = ("_cipher", "owner_id")

    def __init__(self, owner_id: bytes, key: bytes) -> None:
        """key: exactly 32 uniform bytes; ValueError otherwise."""
        if len(key) != DATA_KEY_BYTES:
            raise ValueError(f"a data key must be exactly {DATA_KEY_BYTES} bytes")
        self.owner_id = bytes(owner_id)
        self._cipher = AESGCM(key)

    def seal(self, column: str, context: bytes, plaintext: bytes) -> bytes:
        """The sealed form of `plaintext` for one column of one of the owner's rows.

        context: the row's ids, and the epoch for values of an epoch; the same bytes are needed to open.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plaintext, self._aad(column, context))

    def open(self, column: str, context: bytes, sealed: bytes | None) -> bytes:
        """The plaintext; SealingError if anything differs from what was sealed, or the column is empty."""
        if not sealed or len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES:
            raise SealingError(f"column {column} holds no sealed value")
        if sealed[:1] != _VERSION:
            raise SealingError(f"column {column} has an unknown sealing version")
        try:
            return self._cipher.decrypt(
                sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], self._aad(column, context)
            )
        except InvalidTag:
            raise SealingError(f"column {column} does not open for this row under this key") from None

    def _aad(self, column: str, context: bytes) -> bytes:
        # Every part has its length before it, so no two different triples give the same bytes.
        name = column.encode("ascii")
        return b"".join(len(part).to_bytes(4, "big") + part for part in (name, self.owner_id, context))

    def __repr__(self) -> str:
        return "DataKey(<hidden>)"
