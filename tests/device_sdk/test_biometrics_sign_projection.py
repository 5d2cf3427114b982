"""SignProjection against a second implementation in plain Python, bit by bit."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.biometrics import ProjectionConstants, SignProjection
from device_sdk.biometrics.sign_projection import projection_matrix
from device_sdk.errors import InconsistentCaptures

# ---- the second implementation: no numpy, no floating-point arithmetic -----------------------------------


def plain_half_even(value: Fraction) -> int:
    below = math.floor(value)
    rest = value - below
    return below + int(rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))


def plain_power(largest: Fraction, bits: int) -> Fraction:
    """The power of two p with 2^(bits-1) <= largest p < 2^bits."""
    p = Fraction(1)
    while largest * p >= 2**bits:
        p /= 2
    while largest * p < 2 ** (bits - 1):
        p *= 2
    return p


def plain_unit(vector: list[int]) -> list[int]:
    length = math.isqrt(sum(q * q for q in vector))
    return [(2 * 2**20 * q + length) // (2 * length) for q in vector]


def plain_embedding(embedding: list[float]) -> list[int]:
    exact = [Fraction(x) for x in embedding]
    power = plain_power(max(abs(x) for x in exact), 24)
    return plain_unit([plain_half_even(x * power) for x in exact])


def plain_matrix(label: str, dimensions: int, code_bits: int) -> list[list[int]]:
    seed = b"tandem sign-projection v1" + label.encode()
    seed += bytes([dimensions & 255, dimensions >> 8, 0, 0, code_bits & 255, code_bits >> 8, 0, 0])
    stream = hashlib.shake_256(seed).hexdigest(4 * dimensions * code_bits)
    words = [stream[i : i + 8] for i in range(0, len(stream), 8)]
    entries = [bin(int(word, 16)).count("1") - 16 for word in words]
    return [entries[b * dimensions : (b + 1) * dimensions] for b in range(code_bits)]


def plain_code(unit: list[int], mean: list[float], whitening: list[list[float]], matrix: list[list[int]]) -> list[int]:
    m = [plain_half_even(Fraction(x) * 2**20) for x in mean]
    power = plain_power(max(abs(Fraction(x)) for row in whitening for x in row), 22)
    w = [[plain_half_even(Fraction(x) * power) for x in row] for row in whitening]
    y = [sum(a * (u - c) for a, u, c in zip(row, unit, m, strict=True)) for row in w]
    return [int(sum(r * v for r, v in zip(row, y, strict=True)) >= 0) for row in matrix]


# ---- known answers ---------------------------------------------------------------------------------------

DIMENSIONS, CODE_BITS, LABEL = 6, 64, "vector 1"
MEAN = [0.125, -0.0625, 0.03, 0.0, -0.2, 0.015625]
WHITENING = [[(3.0 if i == j else 0.0) + ((i * 7 + j * 3) % 5 - 2) / 8 for j in range(6)] for i in range(6)]
EMBEDDING = [0.31, -1.7, 0.002, 4.4, -0.9, 2.25]

# Made by the plain implementation above.
ROWS = [[4, -2, 5, 6, -3, -1], [2, -4, 1, 2, 0, 1], [-1, 3, 1, -6, -3, -1]]
UNIT = [61192, -335568, 395, 868530, -177654, 444135]
CODE = "bb3978c0378d8b15"
ENCODER_ID = "sign-projection-v1:45dcab6bacac864e"


@pytest.fixture
def encoder() -> SignProjection:
    return SignProjection(DIMENSIONS, CODE_BITS, MEAN, WHITENING, LABEL)


def test_known_rows_of_the_matrix() -> None:
    """For implementations in other languages: the first thing to get right."""
    rows = projection_matrix(LABEL, DIMENSIONS, CODE_BITS)

    assert rows[:3].tolist() == ROWS
    assert rows.tolist() == plain_matrix(LABEL, DIMENSIONS, CODE_BITS)


def test_known_code_of_a_known_embedding(encoder: SignProjection) -> None:
    """And the last: everything together."""
    unit = plain_embedding(EMBEDDING)

    assert unit == UNIT
    assert encoder.encode(EMBEDDING).packed().hex() == CODE
    assert encoder.encode(EMBEDDING).bits.tolist() == plain_code(
        unit, MEAN, WHITENING, plain_matrix(LABEL, DIMENSIONS, CODE_BITS)
    )
    assert encoder.encoder_id == ENCODER_ID


def test_the_encoder_id_is_a_digest_of_all_public_constants(encoder: SignProjection) -> None:
    """Written out byte by byte, since the id is compared between languages."""
    power = plain_power(Fraction(max(abs(x) for row in WHITENING for x in row)), 22)
    encoded = b"tandem sign-projection constants v1" + bytes([6, 0, 0, 0, 64, 0, 0, 0, 8, 0]) + b"vector 1"
    mean = [Fraction(x) * 2**20 for x in MEAN]
    for value in mean + [Fraction(x) * power for row in WHITENING for x in row]:
        encoded += plain_half_even(value).to_bytes(8, "little", signed=True)

    assert encoder.constants.digest() == hashlib.sha256(encoded).digest()
    assert encoder.encoder_id == "sign-projection-v1:" + hashlib.sha256(encoded).hexdigest()[:16]


@pytest.mark.parametrize("change", ["dimensions", "code_bits", "mean", "whitening", "label"])
def test_any_other_constant_is_another_encoder(encoder: SignProjection, change: str) -> None:
    """A template must never be compared with a probe of another kind."""
    whitening = [row.copy() for row in WHITENING]
    whitening[5][0] += 0.001
    five = [row[:5] for row in WHITENING[:5]]
    other = {
        "dimensions": lambda: SignProjection(5, CODE_BITS, MEAN[:5], five, LABEL),
        "code_bits": lambda: SignProjection(6, 65, MEAN, WHITENING, LABEL),
        "mean": lambda: SignProjection(6, 64, [*MEAN[:5], 0.0157], WHITENING, LABEL),
        "whitening": lambda: SignProjection(6, 64, MEAN, whitening, LABEL),
        "label": lambda: SignProjection(6, 64, MEAN, WHITENING, "vector 2"),
    }[change]()

    assert other.encoder_id != encoder.encoder_id


# ---- laws ------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
embeddings = st.lists(finite, min_size=3, max_size=3).filter(any)
MATRIX_3 = plain_matrix("law", 3, 32)
MEAN_3, WHITENING_3 = [0.1, -0.2, 0.3], [[1.0, 0.5, -0.25], [0.5, 40.0, 0.1], [-0.25, 0.1, 1e-3]]
ENCODER_3 = SignProjection(3, 32, MEAN_3, WHITENING_3, "law")


@given(embeddings)
def test_both_implementations_agree_on_any_embedding(embedding: list[float]) -> None:
    """From the smallest subnormal number to the largest float."""
    assert ENCODER_3.encode(embedding).bits.tolist() == plain_code(
        plain_embedding(embedding), MEAN_3, WHITENING_3, MATRIX_3
    )


@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(any), st.integers(-900, 900))
def test_the_length_of_an_embedding_does_not_matter(embedding: list[float], exponent: int) -> None:
    """Normalisation comes first, and a power of two is exact."""
    scaled = [math.ldexp(x, exponent) for x in embedding]
    single = np.array(embedding, dtype=np.float32)

    code = ENCODER_3.encode(embedding).packed()

    assert ENCODER_3.encode(single).packed() == code
    # Below 2^-1022 a float loses bits, and then it is another embedding.
    if all(math.ldexp(y, -exponent) == x for x, y in zip(embedding, scaled, strict=True)):
        assert ENCODER_3.encode(scaled).packed() == code


@settings(deadline=None)  # the reference counts in Python's integers, which a slow machine does not do in 200 ms
@given(st.lists(embeddings, min_size=3, max_size=6))
def test_enrolment_is_the_code_of_the_mean_direction(samples: list[list[float]]) -> None:
    """Each capture counts alike, however long its embedding is."""
    units = [plain_embedding(sample) for sample in samples]
    total = [sum(column) for column in zip(*units, strict=True)]

    if 2 * math.isqrt(sum(t * t for t in total)) < len(samples) * 2**20:
        with pytest.raises(InconsistentCaptures):
            ENCODER_3.enrol(samples)
    else:
        expected = plain_code(plain_unit(total), MEAN_3, WHITENING_3, MATRIX_3)
        assert ENCODER_3.enrol(samples).bits.tolist() == expected


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_largest_constants_do_not_overflow(seed: int) -> None:
    """1,024 dimensions, every entry of the whitening at its limit and signs that let all sums add up."""
    dimensions, code_bits = 1024, 4
    rng = np.random.default_rng(seed)
    sample = rng.choice(np.array([-1.0, 1.0]), dimensions)
    matrix = projection_matrix("big", dimensions, code_bits)
    target = int(rng.integers(code_bits))
    # Row i of the whitening aims at `sample` with the sign of the matrix entry that will multiply it.
    row_signs = np.where(matrix[target] >= 0, 1, -1)
    whitening = np.outer(row_signs, sample).astype(np.int64) * (1 << 22)
    mean = np.round(-sample * ((1 << 20) / 32)).astype(np.int64)
    constants = ProjectionConstants(dimensions, code_bits, mean, whitening, "big")
    encoder = SignProjection.from_constants(constants)

    code = encoder.encode(sample)

    unit = plain_embedding(sample.tolist())
    inner = sum(int(s) * (u - m) for s, u, m in zip(sample, unit, mean.tolist(), strict=True)) << 22
    exact = [sum(int(r) * int(s) * inner for r, s in zip(row, row_signs, strict=True)) for row in matrix]
    assert max(abs(value) for value in exact) > 1 << 59
    assert code.bits.tolist() == [int(value >= 0) for value in exact]


def test_matrix_entries_are_near_gaussian() -> None:
    """Mean 0, variance 8, as the popcount of 32 fair bits has; and no row repeats."""
    entries = projection_matrix("statistics", 128, 512).astype(np.float64)

    assert abs(entries.mean()) < 0.05
    assert abs(entries.var() - 8) < 0.2
    assert abs(np.mean(entries**4) / entries.var() ** 2 - (3 - 2 / 32)) < 0.1
    assert len({row.tobytes() for row in entries}) == 512
