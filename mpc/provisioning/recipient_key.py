"""A recipient's private key as a file under a passphrase, for `tandem-keys rewrap` and for custody.

| bytes | content |
|---|---|
| 0–3 | "TRKY" |
| 4 | version, 1 |
| 5 | log2 of scrypt's n (RFC 7914), 15 to 18; r = 8, p = 1 |
| 6–21 | salt |
| 22–33 | nonce |
| 34– | AES-256-GCM of the canonical CBOR {suite, key, recipient}; associated data: bytes 0 to 33 |
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mpc.errors import DecodeError
from mpc.primitives import codec
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient

MIN_PASSPHRASE_CHARACTERS = 12
MAX_KEY_FILE_BYTES = 64 * 1024
_MAGIC = b"TRKY"
_VERSION = 1
_LOG2_N = 17  # 128 MiB and about half a second: this file may lie on an exchange medium
_LOG2_N_RANGE = range(15, 19)
_SALT_BYTES, _NONCE_BYTES = 16, 12
_HEAD_BYTES = len(_MAGIC) + 2 + _SALT_BYTES + _NONCE_BYTES


@dataclass(frozen=True, slots=True)
class RecipientKey(NeverPickled):
    """A recipient with its private key. ValueError if they do not belong together."""

    recipient: Recipient
    key: HpkePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if self.key.public_key != self.recipient.public_key:
            raise ValueError("the private key is not this recipient's")

    def protect(self, rng: Rng, passphrase: str) -> bytes:
        """The file. ValueError for a passphrase of fewer than 12 characters (after NFKC), or that is no text."""
        normal = _normal(passphrase)
        if normal is None:
            raise ValueError("the passphrase must be text: check that the terminal uses UTF-8")
        if len(normal) < MIN_PASSPHRASE_CHARACTERS:
            raise ValueError(f"the passphrase must have at least {MIN_PASSPHRASE_CHARACTERS} characters")
        salt, nonce = rng.bytes(_SALT_BYTES), rng.bytes(_NONCE_BYTES)
        head = _MAGIC + bytes([_VERSION, _LOG2_N]) + salt + nonce
        plaintext = codec.encode(
            {"suite": self.key.suite.value, "key": self.key.raw, "recipient": self.recipient.document}
        )
        return head + _cipher(normal, salt, _LOG2_N).encrypt(nonce, plaintext, head)

    @classmethod
    def unprotect(cls, data: bytes, passphrase: str) -> RecipientKey:
        """Raises DecodeError: not such a file, unknown version, or it does not open with this passphrase."""
        what = "recipient_key"
        if data[: len(_MAGIC)] != _MAGIC or not _HEAD_BYTES < len(data) <= MAX_KEY_FILE_BYTES:
            raise DecodeError(what, "is not a recipient key file")
        if data[4] != _VERSION:
            raise DecodeError(what, "has a version that this program does not know; update it")
        if data[5] not in _LOG2_N_RANGE:
            raise DecodeError(what, "asks for a passphrase cost outside of what this program accepts")
        head, salt, nonce = data[:_HEAD_BYTES], data[6 : 6 + _SALT_BYTES], data[6 + _SALT_BYTES : _HEAD_BYTES]
        normal = _normal(passphrase)
        try:
            if normal is None:
                raise InvalidTag
            opened = _cipher(normal, salt, data[5]).decrypt(nonce, data[_HEAD_BYTES:], head)
        except InvalidTag:
            raise DecodeError(what, "does not open: wrong passphrase, or the file was altered") from None
        fields = codec.decode(opened, what=what)
        suite = HpkeSuite(fields.text("suite", at_most=40, one_of=tuple(HpkeSuite)))
        raw = fields.bytes("key", length=suite.private_bytes)
        recipient = Recipient.decode(fields.bytes("recipient", at_most=MAX_RECIPIENT_BYTES))
        fields.done()
        try:
            return cls(recipient, HpkePrivateKey(suite, raw))
        except ValueError:
            raise DecodeError(what, "holds a key that is not its recipient's") from None


def _normal(passphrase: str) -> str | None:
    """NFKC, so that keyboards need not agree; None for what is no text: undecodable bytes from a terminal."""
    # Looked for beforehand: the exception of encode() would carry the whole passphrase.
    if any("\ud800" <= character <= "\udfff" for character in passphrase):
        return None
    return unicodedata.normalize("NFKC", passphrase)


def _cipher(normal_passphrase: str, salt: bytes, log2_n: int) -> AESGCM:
    key = Scrypt(salt=salt, length=32, n=1 << log2_n, r=8, p=1).derive(normal_passphrase.encode("utf-8"))
    return AESGCM(key)
