"""The Ed25519 key with which a ceremony signs its manifest: fresh and forgotten, or a lasting one in a file.

The file is "TCEK" and what `mpc.provisioning.passphrase_lock` says; its content is the key's 32 bytes. There is no form
without a passphrase, and no PEM: the key derivation of encrypted PKCS#8 costs next to nothing here.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keys.ceremony.input_files import read_input
from keys.refusal import Refusal
from mpc.errors import DecodeError
from mpc.primitives.rng import SystemRng
from mpc.provisioning.passphrase_lock import MAX_LOCKED_BYTES, PassphraseLock
from mpc.provisioning.signed_document import key_fingerprint

CEREMONY_KEY_MAGIC = b"TCEK"
_LOCK = PassphraseLock(CEREMONY_KEY_MAGIC, "ceremony_key")
_KEY_BYTES = 32


def fingerprint_of(key: Ed25519PrivateKey) -> str:
    """What witnesses write down."""
    return key_fingerprint(key.public_key().public_bytes_raw())


def read_ceremony_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """Raises Refusal: "ceremony_key" (no such file, or it does not open), and those of `read_input`."""
    try:
        raw = _LOCK.open(read_input(path, at_most=MAX_LOCKED_BYTES), passphrase)
        if len(raw) != _KEY_BYTES:
            raise DecodeError(_LOCK.what, "does not hold an Ed25519 key")
    except DecodeError as error:
        raise Refusal(
            "ceremony_key", f"{path} {error.problem} (such a file is made by `tandem-keys ceremony-key`)"
        ) from None
    return Ed25519PrivateKey.from_private_bytes(raw)


def write_ceremony_key(path: Path, passphrase: str) -> Ed25519PrivateKey:
    """A fresh key, on disk when this returns.

    Raises Refusal: "bad_passphrase", "out_exists"; OSError.
    """
    key = Ed25519PrivateKey.generate()
    try:
        data = _LOCK.close(SystemRng(), key.private_bytes_raw(), passphrase)
    except ValueError as error:
        raise Refusal("bad_passphrase", str(error)) from None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Refusal("out_exists", f"{path} exists and is not overwritten") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return key
