"""Secret columns at rest: AES-256-GCM under a key of each owner (an enrolment, or a recipient of this server's),
derived from the key-encryption key (KEK).

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
import threading
from collections import OrderedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mpc.primitives.secrecy import NeverPickled

KEK_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_INFO = b"tandem at rest v1"
_KEPT_KEYS = 256


class SealingError(Exception):
    """A sealed column did not open: it was altered or moved, or the KEK is not the one it was sealed under.

    Restore the row from a backup, or the KEK file that belongs to this database.
    """


class Sealer(NeverPickled):
    """Seals and opens secret columns. Safe to share between threads.

    A random 96-bit nonce under a key of one enrolment: with the few thousand values an enrolment ever has, a
    repeated nonce is out of reach.
    """

    __slots__ = ("_kek", "_keys", "_lock")

    def __init__(self, kek: bytes) -> None:
        """kek: exactly 32 uniform bytes; ValueError otherwise."""
        if len(kek) != KEK_BYTES:
            raise ValueError(f"the key-encryption key must be exactly {KEK_BYTES} bytes")
        self._kek = bytes(kek)
        self._keys: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._lock = threading.Lock()

    def seal(self, enrolment_id: bytes, column: str, context: bytes, plaintext: bytes) -> bytes:
        """The sealed form of `plaintext` for one column of one row.

        context: the row's ids, and the epoch for values of an epoch; the same bytes are needed to open.
        """
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._key(enrolment_id).encrypt(nonce, plaintext, _aad(enrolment_id, column, context))

    def open(self, enrolment_id: bytes, column: str, context: bytes, sealed: bytes | None) -> bytes:
        """The plaintext; SealingError if anything differs from what was sealed, or the column is empty."""
        if not sealed or len(sealed) < 1 + _NONCE_BYTES + _TAG_BYTES:
            raise SealingError(f"column {column} holds no sealed value")
        if sealed[:1] != _VERSION:
            raise SealingError(f"column {column} has an unknown sealing version")
        try:
            return self._key(enrolment_id).decrypt(
                sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], _aad(enrolment_id, column, context)
            )
        except InvalidTag:
            raise SealingError(f"column {column} does not open for this row under this key") from None

    def _key(self, enrolment_id: bytes) -> AESGCM:
        with self._lock:
            key = self._keys.get(enrolment_id)
            if key is None:
                derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO + enrolment_id).derive(self._kek)
                key = self._keys[enrolment_id] = AESGCM(derived)
                if len(self._keys) > _KEPT_KEYS:
                    self._keys.popitem(last=False)
            else:
                self._keys.move_to_end(enrolment_id)
            return key

    def __repr__(self) -> str:
        return "Sealer(<hidden>)"


def _aad(enrolment_id: bytes, column: str, context: bytes) -> bytes:
    # Every part has its length before it, so no two different triples give the same bytes.
    name = column.encode("ascii")
    return b"".join(len(part).to_bytes(4, "big") + part for part in (name, enrolment_id, context))
