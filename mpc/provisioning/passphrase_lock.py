"""Files under a passphrase: what a private key is in while it lies on a disk or an exchange medium.

| bytes | content |
|---|---|
| 0–3 | which kind of file |
| 4 | version, 1 |
| 5 | log2 of scrypt's n (RFC 7914), 15 to 18; r = 8, p = 1 |
| 6–21 | salt |
| 22–33 | nonce |
| 34– | AES-256-GCM of the content; associated data: bytes 0 to 33 |
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mpc.errors import DecodeError
from mpc.primitives.rng import Rng

MIN_PASSPHRASE_CHARACTERS = 12
MAX_LOCKED_BYTES = 64 * 1024
_VERSION = 1
_LOG2_N = 17  # 128 MiB and about half a second: the file may be stolen on its way
_LOG2_N_RANGE = range(15, 19)
_MAGIC_BYTES, _SALT_BYTES, _NONCE_BYTES = 4, 16, 12
_SALT_AT = _MAGIC_BYTES + 2
_HEAD_BYTES = _SALT_AT + _SALT_BYTES + _NONCE_BYTES


@dataclass(frozen=True, slots=True)
class PassphraseLock:
    """One kind of file. magic: its first four bytes. what: its name in errors, such as "recipient_key"."""

    magic: bytes
    what: str

    def close(self, rng: Rng, content: bytes, passphrase: str) -> bytes:
        """The file. ValueError for a passphrase of fewer than 12 characters (after NFKC), or that is no text."""
        normal = _normal(passphrase)
        if normal is None:
            raise ValueError("the passphrase must be text: check that the terminal uses UTF-8")
        if len(normal) < MIN_PASSPHRASE_CHARACTERS:
            raise ValueError(f"the passphrase must have at least {MIN_PASSPHRASE_CHARACTERS} characters")
        salt, nonce = rng.bytes(_SALT_BYTES), rng.bytes(_NONCE_BYTES)
        head = self.magic + bytes([_VERSION, _LOG2_N]) + salt + nonce
        return head + _cipher(normal, salt, _LOG2_N).encrypt(nonce, content, head)

    def open(self, data: bytes, passphrase: str) -> bytes:
        """The content. Raises DecodeError: not such a file, unknown version, or it does not open."""
        if data[:_MAGIC_BYTES] != self.magic or not _HEAD_BYTES < len(data) <= MAX_LOCKED_BYTES:
            raise DecodeError(self.what, f"is not a {self.what.replace('_', ' ')} file")
        version, log2_n = data[_MAGIC_BYTES:_SALT_AT]
        if version != _VERSION:
            raise DecodeError(self.what, "has a version that this program does not know; update it")
        if log2_n not in _LOG2_N_RANGE:
            raise DecodeError(self.what, "asks for a passphrase cost outside of what this program accepts")
        head = data[:_HEAD_BYTES]
        salt, nonce = head[_SALT_AT : _SALT_AT + _SALT_BYTES], head[_SALT_AT + _SALT_BYTES :]
        normal = _normal(passphrase)
        try:
            if normal is None:
                raise InvalidTag
            return _cipher(normal, salt, log2_n).decrypt(nonce, data[_HEAD_BYTES:], head)
        except InvalidTag:
            raise DecodeError(self.what, "does not open: wrong passphrase, or the file was altered") from None


def _normal(passphrase: str) -> str | None:
    """NFKC, so that keyboards need not agree; None for what is no text: undecodable bytes from a terminal."""
    # Looked for beforehand: the exception of encode() would carry the whole passphrase.
    if any("\ud800" <= character <= "\udfff" for character in passphrase):
        return None
    return unicodedata.normalize("NFKC", passphrase)


def _cipher(normal_passphrase: str, salt: bytes, log2_n: int) -> AESGCM:
    key = Scrypt(salt=salt, length=32, n=1 << log2_n, r=8, p=1).derive(normal_passphrase.encode("utf-8"))
    return AESGCM(key)
