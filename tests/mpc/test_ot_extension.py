"""The OT extension: the correlation, its proof, and every way of cheating that section 9 of the design names.

A cheating device is given the base keys, its honest streams and the challenge of whatever U it sends, so its proof
is the best one for that U: what remains is the guess of bits of Δ.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import BASE_OT_ID, base_keys

from mpc.ot import extension_receiver, extension_sender
from mpc.ot.expansion import challenge, expand, row_bytes, stream_key
from mpc.ot.extension_receiver import ReceiverExtension
from mpc.ot.keys import KAPPA, ReceiverBaseKeys, SenderBaseKeys
from mpc.primitives.aes import blocks_from_bytes
from mpc.primitives.bit_matrix import Bits, multiply, pack, unpack
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import SeededRng

BITS = 512
STREAM = stream_key(BASE_OT_ID, 1, b"\x07" * 32)


@dataclass(frozen=True)
class Sent:
    """What goes over the wire."""

    u: bytes
    x: bytes
    y: bytes


def rows_for(u: bytes, bits: int = BITS) -> bytes:
    return challenge(b"\x01" * 32, b"\x02" * 32, tagged_hash("tandem u v1", u), bits)


def random_choices(bits: int = BITS, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(bits // 8)


def honest(choices: bytes, seed: bytes = b"tail") -> tuple[ReceiverExtension, Sent]:
    extension = extension_receiver.extend(SeededRng(seed), base_keys()[0], STREAM, choices)
    x, y = extension_receiver.prove(extension, rows_for(extension.u, len(choices) * 8))
    return extension, Sent(extension.u, x, y)


def cheating(errors: Bits, guess: Bits, choices: bytes | None = None) -> Sent:
    """U with `errors` (shape (128, ℓ + 128), column by column) added, and the proof that is right if Δ = guess.

    W grows by Δ_i·error_i in column i, so the cheater adds guess_i·R·error_i to column i of Y.
    """
    bits = errors.shape[1] - 128
    extension, _ = honest(choices if choices is not None else random_choices(bits))
    u = bytes(a ^ b for a, b in zip(extension.u, pack(errors.reshape(-1)), strict=True))
    rows = rows_for(u, bits)
    x, y = extension_receiver.prove(extension, rows)
    selected = np.ascontiguousarray((errors & guess[:, None]).T)  # element (j, i)
    as_rows = blocks_from_bytes(pack(selected.reshape(-1)))
    change = multiply(rows, KAPPA, as_rows[:bits]) ^ as_rows[bits:]
    return Sent(u, x, bytes(a ^ b for a, b in zip(y, change.tobytes(), strict=True)))


def verdict(sent: Sent, keys: SenderBaseKeys | None = None, bits: int = BITS) -> bool:
    keys = keys or base_keys()[1]
    w = extension_sender.extend(keys, STREAM, bytes(sent.u), bits)
    return extension_sender.proof_is_valid(keys, w, rows_for(sent.u, bits), bytes(sent.x), bytes(sent.y))


def delta_bits() -> Bits:
    return unpack(base_keys()[1].delta)


def one_error(column: int, row: int) -> Bits:
    errors = np.zeros((KAPPA, BITS + 128), dtype=np.uint8)
    errors[column, row] = 1
    return errors


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- laws and honest runs --------------------------------------------------------------------------------------


@given(blocks=st.integers(1, 6), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_senders_row_is_the_receivers_plus_choice_times_delta(blocks: int, seed: int) -> None:
    choices = random_choices(128 * blocks, seed)
    extension, sent = honest(choices, seed.to_bytes(8, "big"))
    delta = blocks_from_bytes(base_keys()[1].delta)

    w = extension_sender.extend(base_keys()[1], STREAM, sent.u, 128 * blocks)

    extended = unpack(choices + extension.tail)
    assert len(w) == len(extension.v) == len(extended) == 128 * blocks + 128
    for j, bit in enumerate(extended):
        assert w[j].tobytes() == (extension.v[j] ^ (delta[0] if bit else 0)).astype("<u8").tobytes()
    assert verdict(sent, bits=128 * blocks)


@pytest.mark.parametrize("bits", [512, 1024, 2048, 4096, 5 * 4096, 11 * 512])
def test_an_honest_proof_passes_at_every_real_size(bits: int) -> None:
    _, sent = honest(random_choices(bits))

    assert len(sent.u) == KAPPA * row_bytes(bits) and len(sent.x) == 16 and len(sent.y) == 2048
    assert verdict(sent, bits=bits)


@pytest.mark.parametrize("choices", [bytes(64), b"\xff" * 64, b"\xaa" * 64])
def test_an_honest_proof_passes_for_extreme_choices(choices: bytes) -> None:
    assert verdict(honest(choices)[1])


def test_the_expansion_is_the_documented_prg() -> None:
    """G(k)_c = π(k ⊕ c) ⊕ k ⊕ c with c little-endian in bytes 8–15, block by block."""
    keys = base_keys()[0].zeros[:48]
    encrypt = Cipher(algorithms.AES128(STREAM), modes.ECB()).encryptor().update
    for key, row in zip((keys[at : at + 16] for at in (0, 16, 32)), expand(STREAM, keys, 512), strict=True):
        expected = b""
        for counter in range(5):
            block = int.from_bytes(key, "little") ^ counter << 64
            cipher = int.from_bytes(encrypt(block.to_bytes(16, "little")), "little")
            expected += (cipher ^ block).to_bytes(16, "little")
        assert row.tobytes() == expected


def test_every_part_of_the_stream_key_changes_it() -> None:
    keys = {
        stream_key(BASE_OT_ID, 1, bytes(32)),
        stream_key(bytes(16), 1, bytes(32)),
        stream_key(BASE_OT_ID, 2, bytes(32)),
        stream_key(BASE_OT_ID, 1, b"\x01" + bytes(31)),
    }

    assert len(keys) == 4 and all(len(key) == 16 for key in keys)


def test_the_challenge_depends_on_everything_sent_before_it() -> None:
    parts = [b"\x01" * 32, b"\x02" * 32, b"\x03" * 32]
    base = challenge(*parts, 512)

    assert len(base) == KAPPA * 64
    for index in range(3):
        changed = list(parts)
        changed[index] = flipped(parts[index], 255)
        assert challenge(*changed, 512) != base


def test_the_tail_labels_no_wire() -> None:
    """Its bits are used up by the proof: x minus R·u is the tail."""
    extension, _ = honest(random_choices())

    assert extension.labels.shape == (BITS, 2) and extension.v.shape == (BITS + 128, 2)
    tail = {row.tobytes() for row in extension.v[BITS:]}
    assert not tail & {row.tobytes() for row in extension.labels}
    assert honest(random_choices(), b"other")[0].tail != extension.tail


def test_u_of_another_length_is_the_callers_error() -> None:
    _, sent = honest(random_choices())
    for u in (sent.u[:-1], sent.u + b"\x00", b""):
        with pytest.raises(ValueError, match="does not fit"):
            extension_sender.extend(base_keys()[1], STREAM, u, BITS)


# --- cheating --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", range(0, 128, 9))
def test_a_flipped_bit_of_u_without_a_new_proof_is_caught(column: int) -> None:
    """The challenge depends on U, so the old proof fits nothing, whatever Δ is."""
    _, sent = honest(random_choices())
    at = column * row_bytes(BITS) * 8

    for row in (0, 63, 511, 512, 639):
        assert not verdict(Sent(flipped(sent.u, at + row), sent.x, sent.y))


def test_a_flipped_row_or_column_of_u_without_a_new_proof_is_caught() -> None:
    _, sent = honest(random_choices())
    matrix = unpack(sent.u).reshape(KAPPA, -1)
    for change in (np.s_[:, 7], np.s_[:, 600], np.s_[9, :], np.s_[0, :]):
        changed = matrix.copy()
        changed[change] ^= 1
        assert not verdict(Sent(pack(changed.reshape(-1)), sent.x, sent.y))


def test_one_bad_column_passes_exactly_where_its_bit_of_delta_was_guessed() -> None:
    """Each verdict is one bit of Δ. That is why it must be durable before it is told, and Δ erased after a failure."""
    delta = delta_bits()
    for column in range(KAPPA):
        errors = one_error(column, (column * 37) % BITS)
        for guessed in (0, 1):
            guess = np.full(KAPPA, guessed, dtype=np.uint8)
            assert verdict(cheating(errors, guess)) is bool(delta[column] == guessed)


@pytest.mark.parametrize("columns", [(1, 2, 3), (5, 64, 127), (10, 70, 71, 126)])
def test_bad_columns_are_caught_but_for_two_to_the_minus_their_number(columns: tuple[int, ...]) -> None:
    errors = np.zeros((KAPPA, BITS + 128), dtype=np.uint8)
    for column in columns:
        errors[column, 11 * column % BITS] = 1
    passed = []
    for guesses in itertools.product((0, 1), repeat=len(columns)):
        guess = np.zeros(KAPPA, dtype=np.uint8)
        guess[list(columns)] = guesses
        if verdict(cheating(errors, guess)):
            passed.append(guesses)

    assert passed == [tuple(delta_bits()[list(columns)])]


def test_random_errors_everywhere_never_pass() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        errors = generator.integers(0, 2, (KAPPA, BITS + 128), dtype=np.uint8)
        guess = generator.integers(0, 2, KAPPA, dtype=np.uint8)
        assert not verdict(cheating(errors, guess))


def test_an_error_in_the_tail_is_caught_like_any_other() -> None:
    for column in (3, 77):
        bit = delta_bits()[column]
        for row in (BITS, BITS + 127):
            assert verdict(cheating(one_error(column, row), np.full(KAPPA, bit, dtype=np.uint8)))
            assert not verdict(cheating(one_error(column, row), np.full(KAPPA, 1 - bit, dtype=np.uint8)))


def test_column_0_passes_inconsistent_and_gives_nothing() -> None:
    """Bit 0 of Δ is 1 in every enrolment, so a right guess of it says nothing new; nor does W hold anything new."""
    errors = one_error(0, 20)

    sent = cheating(errors, np.ones(KAPPA, dtype=np.uint8))

    assert verdict(sent)
    _, plain = honest(random_choices())
    changed = extension_sender.extend(base_keys()[1], STREAM, sent.u, BITS)
    unchanged = extension_sender.extend(base_keys()[1], STREAM, plain.u, BITS)
    difference = changed ^ unchanged
    assert difference[20].tolist() == [1, 0] and not np.delete(difference, 20, axis=0).any()


def test_a_row_flipped_in_every_column_is_another_choice_bit_and_needs_its_own_proof() -> None:
    errors = np.zeros((KAPPA, BITS + 128), dtype=np.uint8)
    errors[:, 20] = 1
    choices = random_choices()
    other = flipped(choices, 20)

    _, consistent = honest(other)

    assert verdict(consistent)
    assert honest(choices)[0].u != consistent.u
    assert not verdict(cheating(errors, np.zeros(KAPPA, dtype=np.uint8), choices))
    assert not verdict(cheating(errors, np.ones(KAPPA, dtype=np.uint8), choices))
    # the guess of all of Δ is the honest proof in other words
    assert verdict(cheating(errors, delta_bits(), choices))


@pytest.mark.parametrize("bit", range(128))
def test_an_altered_bit_of_x_is_caught(bit: int) -> None:
    _, sent = honest(random_choices())

    assert not verdict(Sent(sent.u, flipped(sent.x, bit), sent.y))


@pytest.mark.parametrize("row", range(0, 128, 5))
def test_an_altered_bit_of_y_is_caught(row: int) -> None:
    _, sent = honest(random_choices())
    for bit in (0, 1, 64, 65, 127, row):
        assert not verdict(Sent(sent.u, sent.x, flipped(sent.y, 128 * row + bit)))


def test_a_proof_of_zeros_or_of_another_login_is_caught() -> None:
    _, sent = honest(random_choices())
    _, other = honest(random_choices(seed=2))

    assert not verdict(Sent(sent.u, bytes(16), bytes(2048)))
    assert not verdict(Sent(sent.u, other.x, other.y))
    assert not verdict(Sent(bytes(len(sent.u)), sent.x, sent.y))


def test_another_device_has_no_valid_proof() -> None:
    _, sent = honest(random_choices())

    assert not verdict(sent, base_keys(b"another enrolment")[1])


def test_keys_of_one_side_only_are_what_each_side_gets() -> None:
    """The types differ, so a role cannot peek: no Δ in the device's state, no second key in the server's."""
    device, server = base_keys()

    assert isinstance(device, ReceiverBaseKeys) and not hasattr(device, "delta")
    assert isinstance(server, SenderBaseKeys) and not hasattr(server, "ones")
    assert server.delta not in device.zeros + device.ones
