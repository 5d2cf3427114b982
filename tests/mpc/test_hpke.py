"""Sealing to a recipient: published vectors, a second implementation, and everything that must not open."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import plain_hpke
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.primitives.hpke import HpkePrivateKey, HpkePublicKey, HpkeSuite, OpenFailed

BOTH = pytest.mark.parametrize("suite", list(HpkeSuite))
SMALL_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
"""The u-coordinates of small order on curve25519 and on its twist, with one not reduced."""


@lru_cache(maxsize=1)
def vectors() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "vectors" / "hpke.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def in_bytes(vector: dict[str, Any]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in vector.items() if isinstance(value, str)}


@cache
def key_of(suite: HpkeSuite, which: int = 0) -> HpkePrivateKey:
    return HpkePrivateKey.generate(suite)


# --- known answers ---------------------------------------------------------------------------------------------


def test_the_second_implementation_opens_the_ciphertext_of_rfc_9180() -> None:
    vector = in_bytes(vectors()["rfc9180"][0])

    secret = plain_hpke.x25519_decapsulated(vector["enc"], vector["skRm"])
    context = plain_hpke.key_schedule(secret, vector["info"], plain_hpke.X25519_KEM, plain_hpke.AES_128)

    assert secret == vector["shared_secret"]
    assert context.open(vector["ciphertext"], vector["aad"]) == vector["plaintext"]


@pytest.mark.parametrize("which", [0, 1], ids=["AES-128-GCM", "AES-256-GCM, the suite in use"])
def test_the_second_implementation_makes_the_thousand_ciphertexts_of_the_published_vectors(which: int) -> None:
    """The suite of our files has a published answer only in this condensed form."""
    vector, values = vectors()["rfc9180"][which], in_bytes(vectors()["rfc9180"][which])
    secret = plain_hpke.x25519_decapsulated(values["enc"], values["skRm"])
    context = plain_hpke.key_schedule(secret, values["info"], plain_hpke.X25519_KEM, vector["aead_id"])
    source, at = hashlib.shake_128().digest(600_000), 0
    sink = hashlib.shake_128()

    def drawn() -> bytes:
        nonlocal at
        start, at = at + 1, at + 1 + source[at]
        return source[start:at]

    for _ in range(1000):
        aad, plaintext = drawn(), drawn()
        sink.update(context.seal(plaintext, aad))

    assert sink.hexdigest(16) == vector["encryptions_accumulated"]


def test_the_second_implementation_finds_the_shared_secret_of_the_x_wing_draft() -> None:
    vector = in_bytes(vectors()["xwing"])
    expanded = hashlib.shake_256(vector["seed"]).digest(96)

    assert plain_hpke.xwing_decapsulated(vector["ct"], expanded[:64], expanded[64:]) == vector["ss"]


@pytest.mark.parametrize("which", [0, 1])
def test_the_public_key_is_that_of_rfc_9180(which: int) -> None:
    vector = in_bytes(vectors()["rfc9180"][which])

    assert HpkePrivateKey(HpkeSuite.X25519, vector["skRm"]).public_key.raw == vector["pkRm"]


# --- two implementations, both directions ----------------------------------------------------------------------


@given(st.binary(max_size=700), st.binary(max_size=90))
@settings(max_examples=15, deadline=None)
def test_x25519_is_interoperable_with_the_second_implementation(plaintext: bytes, info: bytes) -> None:
    """A library's own round trip would not notice that it had left the standard."""
    key = key_of(HpkeSuite.X25519)

    sealed = key.public_key.seal(plaintext, info=info)
    secret = plain_hpke.x25519_decapsulated(sealed[:32], key.raw)
    assert plain_hpke.key_schedule(secret, info, plain_hpke.X25519_KEM).open(sealed[32:]) == plaintext

    secret, encapsulated = plain_hpke.x25519_encapsulated(key.public_key.raw)
    theirs = plain_hpke.key_schedule(secret, info, plain_hpke.X25519_KEM).seal(plaintext)
    assert key.open(encapsulated + theirs, info=info) == plaintext


@given(st.binary(max_size=700), st.binary(max_size=90))
@settings(max_examples=15, deadline=None)
def test_the_hybrid_suite_is_interoperable_with_the_second_implementation(plaintext: bytes, info: bytes) -> None:
    """Shows that both halves of the hybrid enter the key, in the way that has been analysed."""
    key = key_of(HpkeSuite.MLKEM768_X25519)

    sealed = key.public_key.seal(plaintext, info=info)
    secret = plain_hpke.xwing_decapsulated(sealed[:1120], key.raw[:64], key.raw[64:])
    assert plain_hpke.key_schedule(secret, info, plain_hpke.XWING_KEM).open(sealed[1120:]) == plaintext

    secret, encapsulated = plain_hpke.xwing_encapsulated(key.public_key.raw)
    theirs = plain_hpke.key_schedule(secret, info, plain_hpke.XWING_KEM).seal(plaintext)
    assert key.open(encapsulated + theirs, info=info) == plaintext


@BOTH
def test_two_sealings_of_the_same_have_nothing_in_common(suite: HpkeSuite) -> None:
    public = key_of(suite).public_key
    first, second = (public.seal(bytes(64), info=b"") for _ in range(2))

    assert first[:16] != second[:16] and first[-80:-64] != second[-80:-64] and first[-16:] != second[-16:]


# --- what does not open ----------------------------------------------------------------------------------------


@BOTH
def test_nothing_opens_with_another_key_or_info(suite: HpkeSuite) -> None:
    sealed = key_of(suite).public_key.seal(b"secret", info=b"info")

    assert key_of(suite).open(sealed, info=b"info") == b"secret"
    for key, info in ((key_of(suite, 1), b"info"), (key_of(suite), b"inf"), (key_of(suite), b"info\x00")):
        with pytest.raises(OpenFailed):
            key.open(sealed, info=info)


@BOTH
def test_nothing_opens_with_a_key_of_the_other_suite(suite: HpkeSuite) -> None:
    sealed = key_of(suite).public_key.seal(b"secret", info=b"")
    (other,) = set(HpkeSuite) - {suite}

    with pytest.raises(OpenFailed):
        key_of(other).open(sealed, info=b"")


def test_half_of_a_hybrid_key_does_not_open_what_the_whole_one_would() -> None:
    """An attacker who has solved one of the two problems has the other one still before him."""
    key, other = key_of(HpkeSuite.MLKEM768_X25519), key_of(HpkeSuite.MLKEM768_X25519, 1)
    sealed = key.public_key.seal(b"secret", info=b"")

    for raw in (key.raw[:64] + other.raw[64:], other.raw[:64] + key.raw[64:]):
        with pytest.raises(OpenFailed):
            HpkePrivateKey(key.suite, raw).open(sealed, info=b"")


@BOTH
def test_nothing_opens_that_was_cut_short_at_any_length_or_prolonged(suite: HpkeSuite) -> None:
    key = key_of(suite)
    sealed = key.public_key.seal(b"secret", info=b"")

    for damaged in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\x00", b"\x00" + sealed):
        with pytest.raises(OpenFailed):
            key.open(damaged, info=b"")


@BOTH
def test_nothing_opens_with_any_byte_changed(suite: HpkeSuite) -> None:
    """ML-KEM rejects implicitly: a changed encapsulation gives another key, and the tag must notice."""
    key = key_of(suite)
    sealed = key.public_key.seal(b"secret", info=b"")

    for at in range(len(sealed)):
        # The top bit of an X25519 point is ignored by RFC 7748 but bound by the key schedule.
        damaged = sealed[:at] + bytes([sealed[at] ^ (0x80 >> at % 8)]) + sealed[at + 1 :]
        with pytest.raises(OpenFailed):
            key.open(damaged, info=b"")
    at = {HpkeSuite.X25519: 31, HpkeSuite.MLKEM768_X25519: 1119}[suite]
    with pytest.raises(OpenFailed):
        key.open(sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :], info=b"")


@BOTH
@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:6])
def test_an_encapsulation_with_a_point_of_small_order_does_not_open(suite: HpkeSuite, point: bytes) -> None:
    key = key_of(suite)
    sealed = key.public_key.seal(b"secret", info=b"")
    at = {HpkeSuite.X25519: 0, HpkeSuite.MLKEM768_X25519: 1088}[suite]

    with pytest.raises(OpenFailed):
        key.open(sealed[:at] + point + sealed[at + 32 :], info=b"")


# --- keys that are none ----------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:6])
def test_a_public_key_of_small_order_is_refused_before_anything_is_sealed_to_it(suite: HpkeSuite, point: bytes) -> None:
    """What is sealed to such a key, everybody opens; a dealer must hear of it before he makes keys."""
    with pytest.raises(ValueError, match="not usable"):
        HpkePublicKey(suite, key_of(suite).public_key.raw[:-32] + point)


@BOTH
def test_keys_of_another_length_are_refused(suite: HpkeSuite) -> None:
    key = key_of(suite)
    for change in (lambda raw: raw[:-1], lambda raw: raw + b"\x00", lambda raw: b""):
        with pytest.raises(ValueError, match="bytes"):
            HpkePublicKey(suite, change(key.public_key.raw))
        with pytest.raises(ValueError, match="bytes"):
            HpkePrivateKey(suite, change(key.raw))


def test_a_lattice_key_that_is_not_reduced_is_refused() -> None:
    """FIPS 203 section 7.2: coefficients from 3329 to 4095 have no place in an encapsulation key."""
    raw = key_of(HpkeSuite.MLKEM768_X25519).public_key.raw

    with pytest.raises(ValueError):
        HpkePublicKey(HpkeSuite.MLKEM768_X25519, b"\xff\xff\xff" + raw[3:])


@BOTH
def test_a_private_key_is_neither_shown_nor_pickled_nor_copied(suite: HpkeSuite) -> None:
    key = key_of(suite)

    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            attempt(key)
    shown = repr(key) + str(key) + f"{key!r}"
    assert key.raw.hex()[:12] not in shown and repr(key.raw)[2:14] not in shown


@BOTH
def test_a_failed_opening_says_nothing_of_the_reason(suite: HpkeSuite) -> None:
    """One sentence for a wrong key, a wrong tag and a missing tail: no oracle, and no cause that could carry one."""
    key = key_of(suite)
    sealed = key.public_key.seal(b"secret", info=b"")
    texts = set()
    for damaged in (b"", sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), bytes(len(sealed))):
        with pytest.raises(OpenFailed) as caught:
            key.open(damaged, info=b"")
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
        texts.add(str(caught.value))

    assert len(texts) == 1
