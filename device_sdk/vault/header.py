"""The header of a vault file: how its key is made, and which bytes follow.

| offset | bytes | content |
|---|---|---|
| 0  | 8  | `TANDEMVT` |
| 8  | 1  | format version, 1 |
| 9  | 1  | key source (`KeySource`) |
| 10 | 1  | scrypt: log2 of n; 0 unless the source is a passphrase |
| 11 | 1  | scrypt: r; 0 unless the source is a passphrase |
| 12 | 1  | scrypt: p; 0 unless the source is a passphrase |
| 13 | 32 | salt, drawn once when the vault is created |
| 45 | 16 | key check: tells a wrong key from damaged content |
| 61 | 4  | ciphertext length, big-endian, tag included |
| 65 | 12 | AES-GCM nonce, fresh for each write |
| 77 | 4  | CRC-32 of bytes 0..76: tells a damaged header from a wrong key |
| 81 | –  | ciphertext and its 16-byte tag |

All 81 bytes are the associated data of the ciphertext, so the CRC is for clear messages only; nothing relies
on it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from device_sdk.errors import VaultCorrupt

MAGIC = b"TANDEMVT"
VERSION = 1
SALT_BYTES = 32
KEY_CHECK_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
MAX_CIPHERTEXT_BYTES = 16 * 1024 * 1024  # far above any real state; stops a forged length from filling memory

_FIELDS = struct.Struct(f">{len(MAGIC)}sBBBBB{SALT_BYTES}s{KEY_CHECK_BYTES}sI{NONCE_BYTES}s")
_CRC = struct.Struct(">I")
HEADER_BYTES = _FIELDS.size + _CRC.size


class KeySource(IntEnum):
    """Where the key of a vault comes from; written in the header so that an error can name what is needed."""

    PLATFORM = 1
    PASSPHRASE = 2
    KEY_FILE = 3
    APPLICATION = 4  # a `VaultKey` the app wrote itself

    @property
    def title(self) -> str:
        return _TITLES[self]


_TITLES = {
    KeySource.PLATFORM: "the platform key store",
    KeySource.PASSPHRASE: "a passphrase",
    KeySource.KEY_FILE: "a key file",
    KeySource.APPLICATION: "a key of the application",
}


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Cost of scrypt (RFC 7914): n = 2**log2_n, block size r, parallelism p; memory is 128 * n * r bytes."""

    log2_n: int
    r: int
    p: int


SCRYPT_INTERACTIVE = ScryptCost(log2_n=17, r=8, p=1)  # 128 MiB; OWASP Password Storage Cheat Sheet, first choice
# What a header may ask for. The upper end is 512 MiB: a forged header must not be able to exhaust the device.
_SCRYPT_LOG2_N = range(15, 20)
_SCRYPT_R = range(8, 9)
_SCRYPT_P = range(1, 5)


@dataclass(frozen=True, slots=True)
class KeyRecipe:
    """How to make the key of one vault: source, 32-byte salt and, for a passphrase, the scrypt cost."""

    source: KeySource
    salt: bytes
    scrypt: ScryptCost | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """One parsed header; every field is within its range."""

    recipe: KeyRecipe
    key_check: bytes
    ciphertext_bytes: int
    nonce: bytes

    def encode(self) -> bytes:
        scrypt = self.recipe.scrypt or ScryptCost(0, 0, 0)
        fields = _FIELDS.pack(
            MAGIC,
            VERSION,
            self.recipe.source,
            scrypt.log2_n,
            scrypt.r,
            scrypt.p,
            self.recipe.salt,
            self.key_check,
            self.ciphertext_bytes,
            self.nonce,
        )
        return fields + _CRC.pack(zlib.crc32(fields))


def parse_header(data: bytes) -> Header:
    """Read the header at the start of `data`, the whole file.

    Raises `VaultCorrupt`, saying which of these it is: not a vault, an unknown version, cut short, too long,
    damaged, or asking for a key derivation outside the accepted range.
    """
    if not data:
        raise VaultCorrupt("the vault file is empty")
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise VaultCorrupt("this file is not a vault, or its first bytes are destroyed")
    if len(data) > len(MAGIC) and data[len(MAGIC)] != VERSION:
        raise VaultCorrupt("the vault has a format version this software does not know; a newer version may read it")
    if len(data) < HEADER_BYTES:
        raise VaultCorrupt("the vault file is cut short: its header is incomplete")
    fields = data[: _FIELDS.size]
    (received_crc,) = _CRC.unpack_from(data, _FIELDS.size)
    if received_crc != zlib.crc32(fields):
        raise VaultCorrupt("the header of the vault file is damaged")
    _, _, source, log2_n, r, p, salt, key_check, ciphertext_bytes, nonce = _FIELDS.unpack(fields)
    recipe = _parse_recipe(source, ScryptCost(log2_n, r, p), salt)
    if not TAG_BYTES <= ciphertext_bytes <= MAX_CIPHERTEXT_BYTES:
        raise VaultCorrupt("the vault header states an impossible length")
    if len(data) < HEADER_BYTES + ciphertext_bytes:
        raise VaultCorrupt("the vault file is cut short: its content is incomplete")
    if len(data) > HEADER_BYTES + ciphertext_bytes:
        raise VaultCorrupt("the vault file has extra bytes after its end")
    return Header(recipe=recipe, key_check=key_check, ciphertext_bytes=ciphertext_bytes, nonce=nonce)


def _parse_recipe(source: int, scrypt: ScryptCost, salt: bytes) -> KeyRecipe:
    if source not in KeySource.__members__.values():
        raise VaultCorrupt("the vault header names a key source this software does not know")
    if source != KeySource.PASSPHRASE:
        if scrypt != ScryptCost(0, 0, 0):
            raise VaultCorrupt("the vault header gives a passphrase cost but is not locked by a passphrase")
        return KeyRecipe(source=KeySource(source), salt=salt)
    if scrypt.log2_n not in _SCRYPT_LOG2_N or scrypt.r not in _SCRYPT_R or scrypt.p not in _SCRYPT_P:
        raise VaultCorrupt("the vault header asks for a passphrase cost outside the accepted range")
    return KeyRecipe(source=KeySource.PASSPHRASE, salt=salt, scrypt=scrypt)
