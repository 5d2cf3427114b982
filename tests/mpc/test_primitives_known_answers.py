"""The primitives against published vectors, naive loops and independent implementations."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.primitives import modular
from mpc.primitives.aes import WORD, Permutation, blocks_from_bytes, ctr_stream
from mpc.primitives.bit_matrix import masks_from_bits, multiply, multiply_vector, pack, transpose_128, unpack
from mpc.primitives.hashing import tagged_hash, tagged_hash_512, tagged_stream
from mpc.primitives.rng import SeededRng, SystemRng

# --- AES -------------------------------------------------------------------------------------------------------

FIPS_197 = ("000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a")
SP_800_38A_KEY = "2b7e151628aed2a6abf7158809cf4f3c"
SP_800_38A_ECB = {
    "6bc1bee22e409f96e93d7e117393172a": "3ad77bb40d7a3660a89ecaf32466ef97",
    "ae2d8a571e03ac9c9eb76fac45af8e51": "f5d3d58503b9699de785895a96fdbaaf",
    "30c81c46a35ce411e5fbc1191a0a52ef": "43b1cd7f598ece23881b00e3ed030688",
    "f69f2445df4f9b17ad2b417be66c3710": "7b0c785e27e8ad3f8223207104725dd4",
}
# AES-128 under the zero key of the counters 0, 1 and 2, as they occur in the GCM specification's test cases 1 and 2
# (McGrew and Viega): the hash key, the tag of the empty message, the ciphertext of a zero block.
ZERO_KEY_COUNTERS = "66e94bd4ef8a2c3b884cfa59ca342b2e58e2fccefa7e3061367f1d57a4e7455a0388dace60b6a392f328c2b971b2fe78"


def test_the_permutation_is_aes_128_of_fips_197() -> None:
    key, plain, cipher = (bytes.fromhex(text) for text in FIPS_197)

    assert Permutation(key)(blocks_from_bytes(plain)).tobytes() == cipher


def test_many_blocks_in_one_call_are_those_of_sp_800_38a_one_by_one() -> None:
    permutation = Permutation(bytes.fromhex(SP_800_38A_KEY))
    plain = bytes.fromhex("".join(SP_800_38A_ECB))
    expected = bytes.fromhex("".join(SP_800_38A_ECB.values()))

    assert permutation(blocks_from_bytes(plain)).tobytes() == expected
    # a second call must not continue a chain, and shape and strides must not matter
    cube = blocks_from_bytes(plain).reshape(2, 2, 2)
    assert permutation(cube).tobytes() == expected
    assert permutation(blocks_from_bytes(plain)[::-1])[::-1].tobytes() == expected


def test_the_stream_counts_from_zero_in_big_endian() -> None:
    expected = bytes.fromhex(ZERO_KEY_COUNTERS)

    assert ctr_stream(bytes(16), 48) == expected
    assert ctr_stream(bytes(16), 17) == expected[:17]
    assert ctr_stream(bytes(16), 0) == b""


@given(key=st.binary(min_size=16, max_size=16), blocks=st.integers(1, 600))
@settings(max_examples=10, deadline=None)
def test_the_stream_is_the_permutation_of_the_counters(key: bytes, blocks: int) -> None:
    counters = b"".join(number.to_bytes(16, "big") for number in range(blocks))

    assert ctr_stream(key, 16 * blocks) == Permutation(key)(blocks_from_bytes(counters)).tobytes()


# --- hashing ---------------------------------------------------------------------------------------------------

_parts = st.lists(st.binary(max_size=6), max_size=4)
_labels = st.sampled_from(["tandem a v1", "tandem a v10", "tandem b v1", "t"])


def test_the_framing_is_the_documented_one() -> None:
    framed = b"\x0btandem a v1" + b"\x00\x00\x00\x02xy" + b"\x00\x00\x00\x00"

    assert tagged_hash("tandem a v1", b"xy", b"") == hashlib.sha256(framed).digest()
    assert tagged_hash_512("tandem a v1", b"xy", b"") == hashlib.sha512(framed).digest()
    assert tagged_stream("tandem a v1", 300, b"xy", b"") == hashlib.shake_256(framed).digest(300)


def test_shake_256_is_that_of_fips_202() -> None:
    """SHAKE-256 of the empty message, from NIST's examples: the stream's engine under our framing."""
    published = "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f"

    assert hashlib.shake_256(b"").hexdigest(32) == published


@given(_labels, _parts, _labels, _parts)
def test_no_two_inputs_share_an_encoding(label: str, parts: list[bytes], label_2: str, parts_2: list[bytes]) -> None:
    same = (label, parts) == (label_2, parts_2)

    assert (tagged_hash(label, *parts) == tagged_hash(label_2, *parts_2)) is same


@given(st.binary(max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_no_part_borrows_bytes_of_its_neighbour(data: bytes, cut: int, other: int) -> None:
    cut, other = min(cut, len(data)), min(other, len(data))

    left = tagged_hash("tandem a v1", data[:cut], data[cut:])
    right = tagged_hash("tandem a v1", data[:other], data[other:])

    assert (left == right) is (cut == other)
    assert left != tagged_hash("tandem a v1", data)


# --- bit matrices ----------------------------------------------------------------------------------------------


def random_words(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, shape, dtype=np.uint64)


def bits_of_rows(rows: np.ndarray) -> list[list[int]]:
    return [[byte >> bit & 1 for byte in row.astype(WORD).tobytes() for bit in range(8)] for row in rows]


@given(st.binary(max_size=40))
def test_packing_is_least_significant_bit_first(data: bytes) -> None:
    bits = [byte >> bit & 1 for byte in data for bit in range(8)]

    assert unpack(data).tolist() == bits
    assert pack(np.array(bits, dtype=np.uint8)) == data


@given(st.integers(1, 12), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_transposition_moves_bit_j_of_column_i_to_bit_i_of_row_j(words: int, seed: int) -> None:
    columns = random_words(seed, 128, words)

    rows = transpose_128(columns)

    assert rows.shape == (words * 64, 2) and rows.flags.c_contiguous
    assert bits_of_rows(rows) == [list(row) for row in zip(*bits_of_rows(columns), strict=True)]


def test_transposition_leaves_its_argument_alone() -> None:
    columns = random_words(3, 128, 4)
    before = columns.copy()

    transpose_128(columns)

    assert np.array_equal(columns, before)


@given(st.integers(1, 80), st.integers(1, 9), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_product_is_the_sum_of_the_selected_rows(bytes_a_row: int, rows: int, seed: int) -> None:
    """Also where the number of rows is no multiple of the block the product is cut into."""
    generator = np.random.default_rng(seed)
    left = generator.bytes(rows * bytes_a_row)
    right = random_words(seed, bytes_a_row * 8, 2)
    selectors = unpack(left).reshape(rows, -1)

    product = multiply(left, rows, right)

    for row in range(rows):
        expected = [0, 0]
        for column in range(bytes_a_row * 8):
            if selectors[row, column]:
                expected = [expected[0] ^ int(right[column, 0]), expected[1] ^ int(right[column, 1])]
        assert product[row].tolist() == expected


def test_the_product_keeps_bit_patterns_that_would_be_special_floating_point_numbers() -> None:
    """The product moves rows as pairs of 64-bit floats; signalling NaNs must come through unchanged."""
    special = np.array([0x7FF0000000000001, 0xFFF0000000000001, 0x8000000000000000, 1], dtype=np.uint64)
    right = np.stack([np.tile(special, 4), np.roll(np.tile(special, 4), 1)], axis=1)
    identity = pack(np.eye(16, dtype=np.uint8).reshape(-1))

    assert np.array_equal(multiply(identity, 16, right), right)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_matrix_times_vector_is_the_parity_of_the_common_ones(width: int, rows_8: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    left, vector = generator.bytes(rows_8 * 8 * width), generator.bytes(width)
    rows = [left[at : at + width] for at in range(0, len(left), width)]
    expected = [(int.from_bytes(row, "little") & int.from_bytes(vector, "little")).bit_count() & 1 for row in rows]

    assert unpack(multiply_vector(left, rows_8 * 8, vector)).tolist() == expected


def test_masks_are_all_ones_or_all_zeros() -> None:
    assert masks_from_bits(np.array([1, 0, 1], dtype=np.uint8)).tolist() == [2**64 - 1, 0, 2**64 - 1]


# --- modular arithmetic and randomness -------------------------------------------------------------------------


@given(
    base=st.integers(0, 2**2200),
    exponent=st.integers(1, 2**300),
    modulus=st.integers(2**64, 2**2100).map(lambda number: number | 1),
)
@settings(max_examples=60, deadline=None)
def test_the_silent_power_is_the_power(base: int, exponent: int, modulus: int) -> None:
    assert modular.power(base, exponent, modulus) == pow(base, exponent, modulus)


@given(value=st.integers(0, 2**500), modulus=st.integers(2, 2**400))
@settings(max_examples=60, deadline=None)
def test_the_inverse_is_the_inverse_or_none(value: int, modulus: int) -> None:
    inverse = modular.public_inverse(value, modulus)

    if inverse is None:
        with pytest.raises(ValueError, match="not invertible"):
            pow(value, -1, modulus)
    else:
        assert inverse == pow(value, -1, modulus)


def test_a_seed_repeats_itself_and_the_system_does_not() -> None:
    left, right, other = SeededRng(b"one"), SeededRng(b"one"), SeededRng(b"two")

    assert [left.bytes(20), left.bytes(20)] == [right.bytes(20), right.bytes(20)]
    assert left.bytes(20) != other.bytes(20) and left.bytes(20) != left.bytes(20)
    assert SystemRng().bytes(20) != SystemRng().bytes(20)
