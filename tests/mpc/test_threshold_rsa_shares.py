"""Shares of the private exponent: they add up, they hide it, they are refreshed, and wrong ones are noticed."""

from __future__ import annotations

import copy
import pickle

import pytest
from chi_square import bit_counts_look_fair, looks_uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import private_exponent, private_key, public_key

from mpc.errors import Blame, DecodeError, ProtocolAbort
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, refresh_offset, refreshed, share_bits, share_bytes, split
from mpc.threshold_rsa.signing import combine, partial_signature, share_tag, share_tag_is_valid

PRIVATE = private_key(2048)
KEY = public_key(PRIVATE)
D = private_exponent(PRIVATE)
EM = encode_message(Algorithm.RS256, b"message", None, 2048)
T1 = b"\x11" * 32


def shares(seed: bytes = b"shares") -> tuple[KeyShare, KeyShare]:
    return split(SeededRng(seed), KEY, D)


# --- laws ------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_the_shares_add_up_and_survive_their_encoding(seed: bytes) -> None:
    device, server = shares(seed)

    again = [KeyShare.from_bytes(KEY, share.to_bytes()) for share in (device, server)]

    assert device.value + server.value == D
    assert device.value < 0 <= server.value < 1 << share_bits(KEY)
    assert again == [device, server]
    assert {len(share.to_bytes()) for share in (device, server)} == {share_bytes(KEY)} == {2 + (2048 + 192) // 8}


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_refreshes_keep_the_sum_and_separate_the_epochs(rhos: list[bytes]) -> None:
    device, server = shares()
    stale = device
    for number, rho in enumerate(rhos):
        offset = refresh_offset(KEY, number.to_bytes(32, "big"), rho, b"credential")
        assert 0 <= offset < 1 << share_bits(KEY)
        device, server = refreshed(device, -offset), refreshed(server, offset)
    assert device.value + server.value == D

    signature = combine(KEY, EM, partial_signature(device, EM), partial_signature(server, EM))

    assert pow(int.from_bytes(signature, "big"), 65537, KEY.modulus) == EM
    with pytest.raises(ProtocolAbort):
        combine(KEY, EM, partial_signature(stale, EM), partial_signature(server, EM))


def test_every_input_of_a_refresh_changes_it() -> None:
    base = (b"\x01" * 32, b"\x02" * 32, b"credential")
    offsets = {refresh_offset(KEY, *base)}
    for index in range(3):
        changed = list(base)
        changed[index] = b"\x03" * 32
        offsets.add(refresh_offset(KEY, *changed))

    assert len(offsets) == 4


def test_a_share_grows_past_its_width_only_after_two_to_the_64_refreshes() -> None:
    top = KeyShare(KEY, (1 << share_bits(KEY) + 64) - 1)

    assert KeyShare.from_bytes(KEY, top.to_bytes()) == top
    with pytest.raises(DecodeError, match="rotate"):
        refreshed(top, 1)
    with pytest.raises(DecodeError, match="rotate"):
        KeyShare(KEY, -(1 << share_bits(KEY) + 64))


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [0, 1, -1, D >> 200, (1 << 2047) - 1, 1 - (1 << 2047)],
    ids=["zero", "one", "minus one", "200 bits less", "one bit less", "one bit less, negative"],
)
def test_a_short_share_is_refused(value: int) -> None:
    """With a short d2, d1 shows the top bits of d, and N can be factored."""
    with pytest.raises(DecodeError) as caught:
        KeyShare(KEY, value)

    assert caught.value.field == "key_share"
    assert str(value) not in str(caught.value) or abs(value) < 2


def test_a_short_draw_is_drawn_again() -> None:
    class FirstZeros:
        def __init__(self) -> None:
            self.calls = 0

        def bytes(self, count: int) -> bytes:
            self.calls += 1
            return bytes(count) if self.calls == 1 else b"\x80" + bytes(count - 1)

    rng = FirstZeros()

    device, server = split(rng, KEY, D)

    assert rng.calls == 2 and device.value + server.value == D


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda data: data[:-1], "key_share"),
        (lambda data: data + b"\x00", "key_share"),
        (lambda data: b"", "key_share"),
        (lambda data: b"\x00" + data[1:], "key_share.version"),
        (lambda data: b"\x02" + data[1:], "key_share.version"),
        (lambda data: data[:1] + b"\x02" + data[2:], "key_share.sign"),
        (lambda data: data[:1] + b"\xff" + data[2:], "key_share.sign"),
        (lambda data: data[:2] + bytes(len(data) - 2), "key_share"),
        (lambda data: data[:2] + bytes(24) + b"\x7f" + data[27:], "key_share"),
    ],
)
def test_the_stored_form_is_strict(change: object, field: str) -> None:
    data = shares()[1].to_bytes()

    with pytest.raises(DecodeError) as caught:
        KeyShare.from_bytes(KEY, change(data))  # type: ignore[operator]

    assert caught.value.field == field


def test_a_share_for_another_length_of_modulus_is_refused() -> None:
    other = public_key(private_key(3072))

    with pytest.raises(DecodeError):
        KeyShare.from_bytes(other, shares()[1].to_bytes())


def test_shares_are_not_pickled_not_copied_and_not_shown() -> None:
    for share in shares():
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never pickled"):
                attempt(share)
        shown = repr(share) + str(share) + f"{share!r:>10}"
        assert str(share.value) not in shown and hex(abs(share.value))[2:20] not in shown


@pytest.mark.parametrize(
    "modulus",
    [0, 1, -KEY.modulus, KEY.modulus + 1, (1 << 2047) - 1, (1 << 4096) + 1],
    ids=["0", "1", "negative", "even", "2047 bits", "4097 bits"],
)
def test_a_bad_modulus_is_refused(modulus: int) -> None:
    with pytest.raises(ValueError, match="modulus"):
        PublicKey(modulus)


def test_a_public_key_has_one_encoding_and_one_exponent() -> None:
    assert PublicKey.from_bytes(KEY.modulus_bytes, 65537) == KEY
    with pytest.raises(ValueError, match="zero byte"):
        PublicKey.from_bytes(b"\x00" + KEY.modulus_bytes, 65537)
    for exponent in (0, 1, 2, 65536, 2**31 + 1):
        with pytest.raises(ValueError, match="exponent"):
            PublicKey.from_bytes(KEY.modulus_bytes, exponent)


# --- the share check and the combination -----------------------------------------------------------------------


def tag_holds(tag: bytes, *, server: KeyShare | None = None, encoded: int = EM, transcript: bytes = T1) -> bool:
    own = partial_signature(server or shares()[1], encoded)
    return share_tag_is_valid(KEY, transcript, encoded, own, tag)


def test_the_right_share_has_the_right_tag() -> None:
    device, _ = shares()

    assert tag_holds(share_tag(KEY, T1, partial_signature(device, EM)))


def test_every_other_tag_is_refused() -> None:
    device, _ = shares()
    other_message = encode_message(Algorithm.RS256, b"another message", None, 2048)
    partial = partial_signature(device, EM)
    wrong = {
        "of a stale share": share_tag(KEY, T1, partial_signature(refreshed(device, -(1 << 2100)), EM)),
        "of another split": share_tag(KEY, T1, partial_signature(shares(b"other")[0], EM)),
        "of EM^0": share_tag(KEY, T1, 1),
        "of EM": share_tag(KEY, T1, EM),
        "of zero": share_tag(KEY, T1, 0),
        "of another message": share_tag(KEY, T1, partial_signature(device, other_message)),
        "of another transcript": share_tag(KEY, b"\x12" * 32, partial),
        "negated": share_tag(KEY, T1, KEY.modulus - partial),
        "random": b"\x5a" * 32,
        "zeros": bytes(32),
        "short": share_tag(KEY, T1, partial)[:31],
        "empty": b"",
    }

    assert [name for name, tag in wrong.items() if tag_holds(tag)] == []


def test_a_tag_fits_only_the_servers_current_share_and_message() -> None:
    device, server = shares()
    tag = share_tag(KEY, T1, partial_signature(device, EM))

    assert not tag_holds(tag, server=refreshed(server, 1 << 2100))
    assert not tag_holds(tag, encoded=encode_message(Algorithm.RS256, b"another", None, 2048))
    assert not tag_holds(tag, encoded=encode_message(Algorithm.PS256, b"message", bytes(32), 2048))


def test_a_server_value_without_inverse_is_no_match_not_a_crash() -> None:
    """Only an owner of the factors can arrange it; it must not become an answer of another kind."""
    factor = PRIVATE.private_numbers().p

    assert not share_tag_is_valid(KEY, T1, EM, factor, bytes(32))
    assert not share_tag_is_valid(KEY, T1, EM, 0, bytes(32))


def test_a_message_without_inverse_aborts() -> None:
    device, _ = shares()

    with pytest.raises(ProtocolAbort) as caught:
        partial_signature(device, PRIVATE.private_numbers().q)

    assert (caught.value.reason, caught.value.blame) == ("message_not_invertible", Blame.DEVICE)


def test_a_wrong_partial_signature_is_the_servers_fault_and_gives_nothing() -> None:
    device, server = shares()
    good = partial_signature(server, EM)
    wrong = [0, 1, good + 1, KEY.modulus - good, good * 2, EM, partial_signature(shares(b"other")[1], EM), 2**2048 - 1]
    for value in wrong:
        with pytest.raises(ProtocolAbort) as caught:
            combine(KEY, EM, partial_signature(device, EM), value)
        assert (caught.value.reason, caught.value.blame) == ("bad_partial_signature", Blame.SERVER)
        assert str(value) not in str(caught.value) or value < 2


def test_neither_partial_signature_is_a_signature() -> None:
    for share in shares():
        assert pow(partial_signature(share, EM), 65537, KEY.modulus) != EM


# --- what one side sees is independent of the key --------------------------------------------------------------


@pytest.fixture(scope="module")
def many() -> list[tuple[int, int]]:
    rng = SeededRng(b"many")
    return [(device.value, server.value) for device, server in (split(rng, KEY, D) for _ in range(4000))]


@pytest.mark.parametrize("modulus", [2, 3, 5, 7, 16, 101])
def test_each_share_is_uniform_modulo_small_numbers(many: list[tuple[int, int]], modulus: int) -> None:
    for side in (0, 1):
        residues = [shares[side] % modulus for shares in many]
        assert looks_uniform(residues.count(residue) for residue in range(modulus))


def test_each_bit_of_each_share_is_fair(many: list[tuple[int, int]]) -> None:
    """All B bits of d2; of |d1| = d2 − d those below the top, whose bias is 2^-128 of the range."""
    for side in (0, 1):
        width = share_bits(KEY)
        counts = [sum(abs(shares[side]) >> bit & 1 for shares in many[:1500]) for bit in range(0, width, 7)]
        assert bit_counts_look_fair(counts, 1500)


def test_the_top_bits_of_the_devices_share_say_nothing_of_the_key(many: list[tuple[int, int]]) -> None:
    shift = share_bits(KEY) - 4
    for side in (0, 1):
        tops = [abs(shares[side]) >> shift for shares in many]
        assert looks_uniform(tops.count(top) for top in range(16))


def test_the_test_of_uniformity_would_notice() -> None:
    assert looks_uniform([1000, 1010, 990, 1005])
    assert not looks_uniform([1000, 1010, 800, 1005])
    assert not looks_uniform([0, 2000, 1000, 1000])
    assert not bit_counts_look_fair([700, 900], 1500)
