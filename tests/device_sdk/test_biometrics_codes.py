"""Binary codes, the majority of several, and the encoder that takes codes as they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_sdk.biometrics import (
    BinaryCode,
    BinaryCodeEncoder,
    EncodingError,
    consistent,
    differing_and_valid,
    majority,
)
from device_sdk.errors import Advice, InconsistentCaptures, TandemError

bit_lists = st.lists(st.integers(0, 1), min_size=1, max_size=80)


def code_of(bits: list[int], mask: list[int] | None = None) -> BinaryCode:
    return BinaryCode(np.array(bits), None if mask is None else np.array(mask))


@given(bit_lists)
def test_packing_is_lsb_first_and_reversible(bits: list[int]) -> None:
    """Every implementation must put bit i at bit i mod 8 of byte i div 8."""
    code = code_of(bits, bits[::-1])

    packed, packed_mask = code.packed(), code.packed_mask()

    assert int.from_bytes(packed, "little") == sum(bit << i for i, bit in enumerate(bits))
    assert len(packed) == (len(bits) + 7) // 8
    again = BinaryCode.from_packed(packed, len(bits), packed_mask)
    assert again.bits.tolist() == bits
    assert again.mask is not None
    assert again.mask.tolist() == bits[::-1]


def test_a_code_without_a_mask_packs_none() -> None:
    """An absent mask is not an all-usable mask: the two belong to different profiles."""
    assert code_of([1, 0]).packed_mask() is None
    assert BinaryCode.from_packed(b"\x01", 2).mask is None


@pytest.mark.parametrize(
    ("packed", "code_bits", "reason"),
    [
        (b"\x01\x00", 8, "wrong_shape"),
        (b"", 1, "wrong_shape"),
        (b"", 0, "wrong_shape"),
        (b"\x08", 3, "not_binary"),
    ],
)
def test_packed_bytes_that_do_not_fit_are_refused(packed: bytes, code_bits: int, reason: str) -> None:
    """Two byte strings must never mean one code."""
    with pytest.raises(EncodingError) as caught:
        BinaryCode.from_packed(packed, code_bits)

    assert caught.value.code == reason


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        (np.array([0, 2]), "not_binary"),
        (np.array([0, -1], dtype=np.int8), "not_binary"),
        (np.array([0, 256]), "not_binary"),
        (np.array([0.0, 1.0]), "wrong_type"),
        (np.array(["0", "1"]), "wrong_type"),
        (np.array([None, 1]), "wrong_type"),
        (np.zeros((2, 2), dtype=np.uint8), "wrong_shape"),
        (np.zeros(0, dtype=np.uint8), "wrong_shape"),
        (np.zeros(65537, dtype=np.uint8), "wrong_shape"),
        ([[0, 1], [0]], "wrong_shape"),
    ],
)
def test_what_is_not_a_row_of_bits_is_refused(bits: object, reason: str) -> None:
    """256 in particular must not become 0 by a silent change of type."""
    for make in (lambda: BinaryCode(bits), lambda: BinaryCode(np.array([0, 1]), bits)):  # type: ignore[arg-type]
        with pytest.raises(EncodingError) as caught:
            make()

        assert caught.value.code == reason
        assert isinstance(caught.value, TandemError)


def test_a_mask_of_another_length_is_refused() -> None:
    """Otherwise numpy might stretch it."""
    with pytest.raises(EncodingError) as caught:
        code_of([0, 1, 1], [1])

    assert caught.value.code == "wrong_shape"


def test_a_code_is_a_copy_that_nobody_can_write_to() -> None:
    """A probe that changes between two uses would give two different transfers."""
    bits = np.array([0, 1, 1], dtype=np.uint8)
    code = BinaryCode(bits, bits)

    bits[0] = 1

    assert code.mask is not None
    for array in (code.bits, code.mask):
        assert array.tolist() == [0, 1, 1]
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.setflags(write=True)


def test_the_repr_of_a_code_shows_sizes_only() -> None:
    """Codes end in logs sooner or later."""
    assert repr(code_of([1, 0, 1])) == "BinaryCode(3 bits, unmasked)"
    assert str(code_of([1, 0, 1], [1, 1, 1])) == "BinaryCode(3 bits, masked)"


def test_distance_counts_only_bits_that_both_call_usable() -> None:
    """The masked profile divides by this count."""
    first, second = code_of([1, 1, 0, 0], [1, 1, 1, 0]), code_of([0, 1, 1, 1], [1, 0, 1, 1])

    assert differing_and_valid(first, second) == (2, 2)
    assert differing_and_valid(first, code_of([0, 0, 0, 0])) == (2, 3)
    with pytest.raises(EncodingError):
        differing_and_valid(first, code_of([1]))


@given(st.data(), st.integers(3, 6), st.integers(1, 12), st.booleans())
def test_majority_counts_usable_votes_and_the_first_breaks_ties(
    data: st.DataObject, captures: int, code_bits: int, masked: bool
) -> None:
    """The vote written out for one bit at a time, against the vectorised one."""
    rows = st.lists(st.integers(0, 1), min_size=code_bits, max_size=code_bits)
    bits = [data.draw(rows) for _ in range(captures)]
    masks = [data.draw(rows) if masked else [1] * code_bits for _ in range(captures)]

    result = majority([code_of(b, m if masked else None) for b, m in zip(bits, masks, strict=True)])

    assert (result.mask is not None) == masked
    for i in range(code_bits):
        votes = [b[i] for b, m in zip(bits, masks, strict=True) if m[i]]
        usable = 2 * len(votes) > captures
        if result.mask is not None:
            assert result.mask[i] == usable
        expected = 0
        if usable:
            expected = votes[0] if 2 * sum(votes) == len(votes) else int(2 * sum(votes) > len(votes))
        assert result.bits[i] == expected


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40), st.integers(0, 2), st.data())
def test_one_bad_capture_of_three_changes_nothing(bits: list[int], bad: int, data: st.DataObject) -> None:
    """What the majority is for."""
    captures = [code_of(bits)] * 3
    captures[bad] = code_of(data.draw(st.lists(st.integers(0, 1), min_size=len(bits), max_size=len(bits))))

    assert majority(captures).bits.tolist() == bits


def test_enrolment_needs_three_captures_of_one_kind() -> None:
    """Two captures that differ have no majority; a mask on one of them only is a mistake of the app."""
    plain, masked, short = code_of([1, 0]), code_of([1, 0], [1, 1]), code_of([1])
    encoder = BinaryCodeEncoder(2)

    for call, reason in [
        (lambda: majority([plain, plain]), "too_few_captures"),
        (lambda: encoder.enrol([]), "too_few_captures"),
        (lambda: majority([plain, plain, short]), "wrong_shape"),
        (lambda: majority([plain, masked, plain]), "mask_missing"),
        (lambda: encoder.encode(short), "wrong_shape"),
        (lambda: encoder.encode(masked), "mask_unexpected"),
        (lambda: encoder.encode([0.5, 1.0]), "wrong_type"),
        (lambda: BinaryCodeEncoder(2, masked=True).encode(plain), "mask_missing"),
        (lambda: BinaryCodeEncoder(2, masked=True).encode([1, 0]), "mask_missing"),
    ]:
        with pytest.raises(EncodingError) as caught:
            call()
        assert caught.value.code == reason
        assert caught.value.advice is Advice.STOP


def test_captures_of_different_people_are_named_by_position() -> None:
    """The app can then ask for that one capture again."""
    codes = [code_of([0, 0, 0]), code_of([0, 0, 1]), code_of([1, 1, 0])]

    def accepts(first: BinaryCode, second: BinaryCode) -> bool:
        return differing_and_valid(first, second)[0] <= 1

    assert consistent(codes[:2], accepts) == codes[:2]
    with pytest.raises(InconsistentCaptures, match="1 and 3") as caught:
        consistent(codes, accepts)
    assert caught.value.advice is Advice.ASK_USER
    assert caught.value.positions == (1, 3)


def test_a_code_given_directly_passes_unchanged() -> None:
    """Arrays, lists, booleans and codes are one and the same sample."""
    encoder = BinaryCodeEncoder(3, encoder_id="maker-7")

    numbers = np.array([1, 0, 1], dtype=np.int32)
    for sample in ([1, 0, 1], numbers, numbers.astype(bool), code_of([1, 0, 1])):
        assert encoder.encode(sample).bits.tolist() == [1, 0, 1]
    assert (encoder.encoder_id, encoder.code_bits, encoder.masked) == ("maker-7", 3, False)


@pytest.mark.parametrize(("code_bits", "encoder_id"), [(0, "x"), (65537, "x"), (8, "")])
def test_an_encoder_that_cannot_work_is_not_built(code_bits: int, encoder_id: str) -> None:
    """A mistake in configuration is told when the app starts."""
    with pytest.raises(ValueError, match="must"):
        BinaryCodeEncoder(code_bits, encoder_id=encoder_id)
