"""The proof that two halves fit: for one pair, one enrolment and one server, and worth nothing to anybody else."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import private_exponent, private_key, public_key
from webauthn import verify_authentication_response
from webauthn.helpers.exceptions import InvalidAuthenticationResponse, WebAuthnException

from mpc.errors import DecodeError, ProtocolAbort
from mpc.login.authenticator_data import PS256, RS256, assertion_data, cose_rsa_key
from mpc.login.messages import MAX_AUTHENTICATOR_DATA_BYTES
from mpc.login.provisioned_messages import (
    AdoptKey,
    PairingStatement,
    PairShares,
    pairing_proof,
    pairing_proof_is_valid,
)
from mpc.primitives import base64url, codec
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, refreshed, split
from mpc.threshold_rsa.signing import combine, partial_signature, share_tag

PRIVATE = private_key(2048)
KEY = public_key(PRIVATE)
D1, D2 = split(SeededRng(b"pairing"), KEY, private_exponent(PRIVATE))
ENROLMENT, SERVER_ID = bytes(range(16)), "auth.example"
STATEMENT = PairingStatement(SERVER_ID, ENROLMENT, "shop.example", 2_000_000_000, bytes(range(16, 32)))
PROOF = pairing_proof(D1, STATEMENT)


def fits(proof: bytes, *, share: KeyShare = D2, **changes: Any) -> bool:
    return pairing_proof_is_valid(share, replace(STATEMENT, **changes), proof)


def statement() -> bytes:
    ceremony = bytes(range(16, 32))
    expiry = (2_000_000_000).to_bytes(8, "big")
    return tagged_hash("tandem pair v1", KEY.key_id, SERVER_ID.encode(), ENROLMENT, b"shop.example", expiry, ceremony)


def whole_signature() -> bytes:
    """What both halves would sign together if they ever sent their parts; they do not."""
    encoded = encode_message(Algorithm.RS256, statement(), None, KEY.bits)
    return combine(KEY, encoded, partial_signature(D1, encoded), partial_signature(D2, encoded))


# --- what fits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_the_two_halves_of_a_key_fit(bits: int) -> None:
    private = private_key(bits)
    device, server = split(SeededRng(b"fit"), public_key(private), private_exponent(private))

    proof = pairing_proof(device, STATEMENT)

    assert len(proof) == 32 and fits(proof, share=server)
    assert proof == pairing_proof(device, STATEMENT)  # so a repeated request is the same request


def test_an_imported_key_with_a_small_exponent_fits_too() -> None:
    numbers = PRIVATE.private_numbers()
    phi = (numbers.p - 1) * (numbers.q - 1)
    exponent = next(e for e in range(3, 2000, 2) if math.gcd(e, phi) == 1)
    key = PublicKey(KEY.modulus, exponent)
    device, server = split(SeededRng(b"small e"), key, pow(exponent, -1, phi))

    assert fits(pairing_proof(device, STATEMENT), share=server)
    assert not fits(pairing_proof(device, STATEMENT))


# --- what does not ---------------------------------------------------------------------------------------------


def test_another_enrolment_server_or_half_does_not_fit() -> None:
    """A proof that was overheard must not pair the key with the listener's enrolment."""
    other_device, other_server = split(SeededRng(b"another split"), KEY, private_exponent(PRIVATE))
    assert fits(PROOF)

    assert not fits(PROOF, enrolment_id=bytes(16))
    assert not fits(PROOF, server_id="auth.example.org")
    assert not fits(PROOF, server_id="")
    assert not fits(PROOF, share=other_server)
    assert not fits(pairing_proof(other_device, STATEMENT))
    assert fits(pairing_proof(other_device, STATEMENT), share=other_server)


@pytest.mark.parametrize(
    "changes",
    [
        {"rp_id": "shop.example.org"},
        {"rp_id": ""},
        {"not_after": 2_000_000_001},
        {"not_after": None},
        {"ceremony_id": bytes(16)},
    ],
    ids=str,
)
def test_a_half_that_was_sealed_again_on_other_terms_does_not_fit(changes: dict[str, Any]) -> None:
    """Whoever has the device's half can seal it again with another site or without an end; only the ceremony counts."""
    assert not fits(pairing_proof(D1, replace(STATEMENT, **changes)))
    assert not fits(PROOF, **changes)


def test_a_half_of_another_key_does_not_fit() -> None:
    other = private_key(2048, 1)
    device, server = split(SeededRng(b"pairing"), public_key(other), private_exponent(other))

    assert not fits(pairing_proof(device, STATEMENT))
    assert not fits(PROOF, share=server)


@given(st.integers(1, 2**2176 - 1))
@settings(max_examples=10, deadline=None)
def test_a_refreshed_half_does_not_fit_an_old_one(offset: int) -> None:
    """After the first login the waiting device file is stale, and an old copy of it pairs with nothing."""
    device, server = refreshed(D1, -offset), refreshed(D2, offset)

    assert not fits(PROOF, share=server)
    assert not fits(pairing_proof(device, STATEMENT))
    assert fits(pairing_proof(device, STATEMENT), share=server)


def test_the_servers_own_half_proves_nothing() -> None:
    """A reflected role: whoever has stolen only the server's half cannot pair with it."""
    assert not fits(pairing_proof(D2, STATEMENT))


@pytest.mark.parametrize(
    "proof",
    [b"", bytes(32), PROOF[:-1], PROOF + b"\x00", PROOF[::-1], bytes([PROOF[0] ^ 1]) + PROOF[1:]],
    ids=["empty", "zeros", "short", "long", "reversed", "one bit"],
)
def test_a_damaged_proof_is_refused_without_an_exception(proof: bytes) -> None:
    assert not fits(proof)


def test_the_public_key_alone_makes_no_proof() -> None:
    """The values that a stranger can compute for s1^e: none of them is the right one."""
    encoded = encode_message(Algorithm.RS256, statement(), None, KEY.bits)
    guesses = [0, 1, encoded, KEY.modulus - 1, pow(encoded, -1, KEY.modulus), pow(encoded, 65537, KEY.modulus)]

    assert not any(fits(share_tag(KEY, statement(), guess)) for guess in guesses)


def test_a_proof_is_no_share_tag_of_a_login() -> None:
    """Same hash, other transcript: neither can be shown in the place of the other."""
    encoded = encode_message(Algorithm.RS256, statement(), None, KEY.bits)
    for transcript in (bytes(32), KEY.key_id, hashlib.sha256(statement()).digest()):
        assert not fits(share_tag(KEY, transcript, partial_signature(D1, encoded)))


def test_a_modulus_with_small_factors_ends_in_an_abort_and_no_proof() -> None:
    """Anybody can seal a share with such an N to a known recipient; the device must not store or send anything."""
    factors = math.prod(p for p in range(3, 1400) if all(p % q for q in range(2, math.isqrt(p) + 1)))
    modulus = factors * (((1 << 2047) // factors + 1) | 1)
    hostile = KeyShare(PublicKey(modulus), -(1 << 2175) - 1)

    with pytest.raises(ProtocolAbort) as caught:
        pairing_proof(hostile, STATEMENT)

    assert caught.value.reason == "message_not_invertible"


def test_identifiers_cannot_borrow_from_each_other() -> None:
    """Enrolment id and server id are framed: moving a byte across their border makes another statement."""
    proof = pairing_proof(D1, replace(STATEMENT, enrolment_id=ENROLMENT[:15], server_id="auth\x0f"))

    assert fits(proof, enrolment_id=ENROLMENT[:15], server_id="auth\x0f")
    assert not fits(proof, enrolment_id=b"\x0f" + ENROLMENT[:15], server_id="auth")


# --- the statement is nobody's challenge -----------------------------------------------------------------------


def test_the_statement_has_no_length_that_a_relying_party_verifies() -> None:
    """A relying party verifies authenticator data (at least 37 bytes) and a hash of 32: 69 bytes or more, always.
    The statement has 32, and RS256 hashes the message once; so equal signed messages would need a SHA-256 collision.
    """
    assert len(statement()) == 32
    assert len(assertion_data("shop.example", 1)) + 32 >= 69
    assert MAX_AUTHENTICATOR_DATA_BYTES + 32 > 69


def test_the_whole_signature_would_be_a_real_one_over_the_statement_and_nothing_else() -> None:
    """The worst case, both partial signatures leaked: what could be done with the result?"""
    signature = whole_signature()
    public = PRIVATE.public_key()
    public.verify(signature, statement(), padding.PKCS1v15(), SHA256())

    others = [hashlib.sha256(statement()).digest(), statement() + bytes(37), bytes(37) + statement(), b""]
    for message in others:
        with pytest.raises(InvalidSignature):
            public.verify(signature, message, padding.PKCS1v15(), SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(signature, statement(), padding.PSS(padding.MGF1(SHA256()), 32), SHA256())


def judged(authenticator_data: bytes, client_data: bytes, signature: bytes, algorithm: int) -> bool:
    """Whether py_webauthn lets this assertion in; its exception otherwise."""
    response = {"authenticatorData": authenticator_data, "clientDataJSON": client_data, "signature": signature}
    name = base64url.encode(KEY.key_id)
    credential: dict[str, Any] = {"id": name, "rawId": name, "type": "public-key", "clientExtensionResults": {}}
    credential["response"] = {part: base64url.encode(value) for part, value in response.items()}
    return verify_authentication_response(
        credential=credential,
        expected_challenge=b"challenge",
        expected_rp_id="shop.example",
        expected_origin="https://shop.example",
        credential_public_key=cose_rsa_key(Algorithm(algorithm), KEY.modulus, 65537),
        credential_current_sign_count=0,
    ).user_verified


@pytest.mark.parametrize("algorithm", [RS256, PS256])
def test_a_relying_party_accepts_the_pairing_signature_for_nothing(algorithm: int) -> None:
    """Judged by py_webauthn: the rest is the attacker's choice, the signature is all that he would have won."""
    client_data = b'{"type":"webauthn.get","challenge":"Y2hhbGxlbmdl","origin":"https://shop.example"}'
    data = assertion_data("shop.example", 1)
    scheme = padding.PKCS1v15() if algorithm == RS256 else padding.PSS(padding.MGF1(SHA256()), 32)
    own = PRIVATE.sign(data + hashlib.sha256(client_data).digest(), scheme, SHA256())
    assert judged(data, client_data, own, algorithm)  # the judge is awake

    with pytest.raises(InvalidAuthenticationResponse, match="signature"):
        judged(data, client_data, whole_signature(), algorithm)
    for authenticator_data in (statement(), statement() + bytes(5), statement() + data, data + statement(), b""):
        with pytest.raises(WebAuthnException):
            judged(authenticator_data, client_data, whole_signature(), algorithm)


# --- the messages ----------------------------------------------------------------------------------------------

PAIR = PairShares(ENROLMENT, KEY.key_id, PROOF)
ADOPT = AdoptKey(ENROLMENT, KEY.key_id, RS256)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_messages_come_back_as_they_were_sent(enrolment: bytes, key_id: bytes, proof: bytes) -> None:
    pair = PairShares(enrolment, key_id, proof)
    assert PairShares.decode(pair.encode()) == pair
    for algorithm in (RS256, PS256):
        adopt = AdoptKey(enrolment, key_id, algorithm)
        assert AdoptKey.decode(adopt.encode()) == adopt


@pytest.mark.parametrize(
    ("kind", "message", "changes"),
    [
        *((kind, made, {"v": v}) for kind, made in ((PairShares, PAIR), (AdoptKey, ADOPT)) for v in (0, 2, "1", ...)),
        (PairShares, PAIR, {"enrolment_id": bytes(15)}),
        (PairShares, PAIR, {"enrolment_id": ...}),
        (PairShares, PAIR, {"key_id": bytes(31)}),
        (PairShares, PAIR, {"key_id": "x" * 32}),
        (PairShares, PAIR, {"proof": bytes(31)}),
        (PairShares, PAIR, {"proof": bytes(33)}),
        (PairShares, PAIR, {"proof": ...}),
        (PairShares, PAIR, {"algorithm": RS256}),
        (AdoptKey, ADOPT, {"algorithm": -7}),
        (AdoptKey, ADOPT, {"algorithm": 257}),
        (AdoptKey, ADOPT, {"algorithm": True}),
        (AdoptKey, ADOPT, {"algorithm": ...}),
        (AdoptKey, ADOPT, {"proof": bytes(32)}),
        (AdoptKey, ADOPT, {"key_id": bytes(33)}),
    ],
    ids=lambda value: (
        " ".join(f"{name}={str(v)[:9]!a}" for name, v in value.items())
        if isinstance(value, dict)
        else getattr(value, "__name__", "")
    ),
)
def test_a_message_outside_its_form_is_refused(kind: Any, message: Any, changes: dict[str, object]) -> None:
    values = codec.decode(message.encode(), what="test").remaining() | changes
    body = codec.encode({name: value for name, value in values.items() if value is not ...})

    with pytest.raises(DecodeError):
        kind.decode(body)


@pytest.mark.parametrize(("kind", "message"), [(PairShares, PAIR), (AdoptKey, ADOPT)])
def test_a_message_cut_prolonged_or_changed_is_another_message_or_none(kind: Any, message: Any) -> None:
    body = message.encode()
    for damaged in (*(body[:length] for length in range(len(body))), body + b"\x00"):
        with pytest.raises(DecodeError):
            kind.decode(damaged)
    for at in range(len(body)):
        try:
            again = kind.decode(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        except DecodeError:
            continue
        assert again != message


def test_neither_message_passes_for_the_other() -> None:
    with pytest.raises(DecodeError):
        AdoptKey.decode(PAIR.encode())
    with pytest.raises(DecodeError):
        PairShares.decode(ADOPT.encode())
