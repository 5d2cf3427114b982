"""The Ed25519 key with which a ceremony signs its manifest: fresh and forgotten, or a lasting one in a PEM file."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from keys.input_files import read_input
from keys.refusal import Refusal
from mpc.provisioning.signed_document import key_fingerprint

MIN_PASSPHRASE_BYTES = 12
_MAX_KEY_FILE_BYTES = 16 * 1024


def fingerprint_of(key: Ed25519PrivateKey) -> str:
    """What witnesses write down."""
    return key_fingerprint(key.public_key().public_bytes_raw())


def read_ceremony_key(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    """A PKCS#8 PEM, encrypted or not.

    Raises Refusal: "needs_passphrase", "wrong_passphrase", "not_a_ceremony_key", and those of `read_input`.
    """
    data = read_input(path, at_most=_MAX_KEY_FILE_BYTES)
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data
    if encrypted and passphrase is None:
        raise Refusal("needs_passphrase", f"{path} is encrypted: give its passphrase")
    try:
        key = load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's text may quote the input.
        if encrypted:
            raise Refusal("wrong_passphrase", f"{path} does not open: wrong passphrase, or damaged") from None
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Refusal("not_a_ceremony_key", f"{path} is not an Ed25519 key in PEM; make one: tandem-keys ceremony-key")
    return key


def write_ceremony_key(path: Path, passphrase: bytes) -> Ed25519PrivateKey:
    """A fresh key, on disk when this returns.

    Raises Refusal: "short_passphrase", "out_exists"; OSError.
    """
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise Refusal("short_passphrase", f"the passphrase must have at least {MIN_PASSPHRASE_BYTES} characters")
    key = Ed25519PrivateKey.generate()
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))
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
