"""Joint signatures against the W3C's vector and against another library's verification, as a relying party does it."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor
from parties import private_exponent, private_key, public_key

from mpc.login.authenticator_data import cose_rsa_key
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, split
from mpc.threshold_rsa.signing import combine, partial_signature, share_tag, share_tag_is_valid

W3C_P, W3C_Q = 2**1279 - 1, 2**2203 - 1
SALT = bytes(range(32))


@lru_cache(maxsize=1)
def w3c() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "vectors" / "w3c_rs256.json"
    vector: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return vector


def joint(key: PublicKey, device: KeyShare, server: KeyShare, encoded: int) -> bytes:
    """Both parties sign from their own share of the same message."""
    return combine(key, encoded, partial_signature(device, encoded), partial_signature(server, encoded))


def w3c_shares(seed: bytes) -> tuple[PublicKey, KeyShare, KeyShare]:
    key = PublicKey(W3C_P * W3C_Q)
    return key, *split(SeededRng(seed), key, pow(65537, -1, (W3C_P - 1) * (W3C_Q - 1)))


@pytest.mark.parametrize("seed", [b"one", b"two", b"three"])
def test_the_joint_signature_is_that_of_the_w3c_vector_however_the_key_is_split(seed: bytes) -> None:
    vector = w3c()["authentication"]
    message = bytes.fromhex(vector["authenticatorData"])
    message += hashlib.sha256(bytes.fromhex(vector["clientDataJSON"])).digest()
    key, device, server = w3c_shares(seed)

    signature = joint(key, device, server, encode_message(Algorithm.RS256, message, None, key.bits))

    assert key.bits == 3482
    assert signature == bytes.fromhex(vector["signature"])


def test_the_cose_key_is_that_of_the_w3c_vector() -> None:
    """The vector's attestation is by a certificate, not by the credential, so its signature is not ours to make."""
    attestation = cbor.decode(bytes.fromhex(w3c()["registration"]["attestationObject"]))
    data = attestation["authData"]
    length = int.from_bytes(data[53:55], "big")
    assert data[55 : 55 + length].hex() == w3c()["registration"]["credential_id"]

    assert data[55 + length :] == cose_rsa_key(Algorithm.RS256, W3C_P * W3C_Q, 65537)


def test_the_w3c_signature_over_another_message_is_not_made() -> None:
    key, device, server = w3c_shares(b"one")
    encoded = encode_message(Algorithm.RS256, b"another message", None, key.bits)

    assert joint(key, device, server, encoded).hex() != w3c()["authentication"]["signature"]


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.parametrize("message", [b"", b"message", b"\x00" * 200], ids=["empty", "short", "zeros"])
def test_both_algorithms_verify_in_another_library(bits: int, message: bytes) -> None:
    private = private_key(bits)
    key = public_key(private)
    device, server = split(SeededRng(message), key, private_exponent(private))

    rs256 = joint(key, device, server, encode_message(Algorithm.RS256, message, None, key.bits))
    ps256 = joint(key, device, server, encode_message(Algorithm.PS256, message, SALT, key.bits))

    public = private.public_key()
    public.verify(rs256, message, padding.PKCS1v15(), SHA256())
    public.verify(ps256, message, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
    assert len(rs256) == len(ps256) == bits // 8
    # RS256 is deterministic, so the other library makes the very same bytes
    assert rs256 == private.sign(message, padding.PKCS1v15(), SHA256())
    for salt_length in (31, 33, 0):
        with pytest.raises(InvalidSignature):
            public.verify(ps256, message, padding.PSS(padding.MGF1(SHA256()), salt_length), SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(rs256, message + b"x", padding.PKCS1v15(), SHA256())


def test_ps256_works_where_the_modulus_is_not_a_number_of_whole_bytes() -> None:
    """emBits is one less than the modulus: leading bits must be cleared according to it, not to whole bytes."""
    key, device, server = w3c_shares(b"one")
    encoded = encode_message(Algorithm.PS256, b"message", SALT, key.bits)
    assert encoded.bit_length() <= key.bits - 1

    signature = joint(key, device, server, encoded)

    public = RSAPublicNumbers(65537, key.modulus).public_key()
    public.verify(signature, b"message", padding.PSS(padding.MGF1(SHA256()), 32), SHA256())


@pytest.mark.parametrize("bits", [2048, 2049, 2055, 2056, 3482, 4096])
def test_encodings_are_below_every_modulus_of_their_length(bits: int) -> None:
    for number in range(40):
        message = bytes([number])
        salt = hashlib.sha256(message).digest()
        assert encode_message(Algorithm.PS256, message, salt, bits) < 1 << bits - 1
        assert encode_message(Algorithm.RS256, message, None, bits) < 1 << bits - 1


@pytest.mark.parametrize(
    ("algorithm", "salt"),
    [
        (Algorithm.RS256, SALT),
        (Algorithm.RS256, b""),
        (Algorithm.PS256, None),
        (Algorithm.PS256, b""),
        (Algorithm.PS256, SALT[:31]),
        (Algorithm.PS256, SALT + b"x"),
    ],
)
def test_a_salt_where_none_belongs_or_of_another_length_is_refused(algorithm: Algorithm, salt: bytes | None) -> None:
    with pytest.raises(ValueError, match="salt"):
        encode_message(algorithm, b"message", salt, 2048)


def test_the_share_check_works_on_the_w3c_key() -> None:
    key, device, server = w3c_shares(b"one")
    encoded = encode_message(Algorithm.RS256, b"message", None, key.bits)

    tag = share_tag(key, b"transcript", partial_signature(device, encoded))

    assert share_tag_is_valid(key, b"transcript", encoded, partial_signature(server, encoded), tag)
