"""authenticatorData and the COSE key, as both halves of the authenticator must build them.

Layout (WebAuthn section 6.1), bytes:

    0   32  SHA-256 of the relying party id
    32   1  flags: UP 0x01, UV 0x04, AT 0x40, ED 0x80; BE and BS are never set, these credentials are device-bound
    33   4  signature counter, big-endian
    37  16  AAGUID                       ─┐
    53   2  length L of the credential id │ in a registration only
    55   L  credential id                 │
    ..      COSE key, CTAP2 canonical    ─┘
    ..      extension outputs, if ED
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from fido2 import cbor

from mpc.login.extension_outputs import ExtensionOutputs
from mpc.threshold_rsa.encodings import Algorithm

RS256 = int(Algorithm.RS256)
PS256 = int(Algorithm.PS256)
ALGORITHMS = (RS256, PS256)

AAGUID = UUID("5c1f9d0a-7a3e-4b52-9a64-7ad3e0c2f1b8").bytes
"""Names this make of authenticator (device and server together)."""

ASSERTION_FLAGS = 0x01 | 0x04
REGISTRATION_FLAGS = ASSERTION_FLAGS | 0x40
EXTENSION_DATA_FLAG = 0x80
_NO_OUTPUTS = ExtensionOutputs()
ASSERTION_DATA_BYTES = 37
MAX_CREDENTIAL_ID_BYTES = 64
MIN_CREDENTIAL_ID_BYTES = 16


def rp_id_hash(rp_id: str) -> bytes:
    """SHA-256 over the UTF-8 relying party id."""
    return hashlib.sha256(rp_id.encode("utf-8")).digest()


def assertion_data(rp_id: str, sign_count: int, outputs: ExtensionOutputs = _NO_OUTPUTS) -> bytes:
    """authenticatorData of a login, 37 bytes: flags exactly UP and UV. With extension outputs also ED, and longer."""
    return _head(rp_id, ASSERTION_FLAGS, sign_count, outputs) + outputs.encode()


def registration_data(
    rp_id: str,
    sign_count: int,
    credential_id: bytes,
    cose_key: bytes,
    outputs: ExtensionOutputs = _NO_OUTPUTS,
) -> bytes:
    """authenticatorData of a registration: flags exactly UP, UV and AT, and ED if there are outputs of extensions."""
    return (
        _head(rp_id, REGISTRATION_FLAGS, sign_count, outputs)
        + AAGUID
        + len(credential_id).to_bytes(2, "big")
        + credential_id
        + cose_key
        + outputs.encode()
    )


def _head(rp_id: str, flags: int, sign_count: int, outputs: ExtensionOutputs) -> bytes:
    if outputs != _NO_OUTPUTS:
        flags |= EXTENSION_DATA_FLAG
    return rp_id_hash(rp_id) + bytes([flags]) + sign_count.to_bytes(4, "big")


def cose_rsa_map(algorithm: int, modulus: int, exponent: int) -> dict[int, int | bytes]:
    """{1: 3 (RSA), 3: alg, -1: n, -2: e} (RFC 8230 section 4), integers without leading zero bytes."""
    return {
        1: 3,
        3: algorithm,
        -1: modulus.to_bytes((modulus.bit_length() + 7) // 8, "big"),
        -2: exponent.to_bytes((exponent.bit_length() + 7) // 8, "big"),
    }


def cose_rsa_key(algorithm: int, modulus: int, exponent: int) -> bytes:
    """`cose_rsa_map` in CTAP2 canonical CBOR."""
    return cbor.encode(cose_rsa_map(algorithm, modulus, exponent))


def sign_count_of(authenticator_data: bytes) -> int:
    """The signature counter of authenticatorData of at least 37 bytes."""
    return int.from_bytes(authenticator_data[33:37], "big")
