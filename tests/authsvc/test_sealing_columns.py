"""Secret columns at rest open only where they were sealed."""

from __future__ import annotations

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.sealing import DataKey, SealingError

KEY = bytes(range(32))
ALICE, BOB = b"a" * 16, b"b" * 16


@given(st.binary(max_size=5000), st.binary(max_size=40))
def test_what_is_sealed_opens_again(plaintext: bytes, context: bytes) -> None:
    sealed = DataKey(ALICE, KEY).seal("sealed_share", context, plaintext)

    assert DataKey(ALICE, KEY).open("sealed_share", context, sealed) == plaintext


@pytest.mark.parametrize(
    ("enrolment", "column", "context"),
    [
        (BOB, "sealed_share", b"credential 1|epoch 1"),
        (ALICE, "sealed_template", b"credential 1|epoch 1"),
        (ALICE, "sealed_share", b"credential 2|epoch 1"),
        (ALICE, "sealed_share", b"credential 1|epoch 2"),
        (ALICE, "sealed_shar", b"ecredential 1|epoch 1"),
    ],
    ids=["another enrolment", "another column", "another row", "another epoch", "a shifted boundary"],
)
def test_a_value_moved_elsewhere_does_not_open(enrolment: bytes, column: str, context: bytes) -> None:
    """Write access to the database must not let anyone swap shares between rows or bring an old epoch back."""
    key = DataKey(ALICE, KEY)
    sealed = key.seal("sealed_share", b"credential 1|epoch 1", b"secret share")

    with pytest.raises(SealingError):
        DataKey(enrolment, KEY).open(column, context, sealed)


def test_every_flipped_bit_is_noticed() -> None:
    key = DataKey(ALICE, KEY)
    sealed = key.seal("sealed_share", b"", b"share")

    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealingError):
            key.open("sealed_share", b"", bytes(altered))


@pytest.mark.parametrize("length", range(29))
def test_a_truncated_or_empty_column_does_not_open(length: int) -> None:
    key = DataKey(ALICE, KEY)
    sealed = key.seal("sealed_share", b"", b"")

    with pytest.raises(SealingError):
        key.open("sealed_share", b"", sealed[:length])
    with pytest.raises(SealingError):
        key.open("sealed_share", b"", None)


def test_another_key_opens_nothing() -> None:
    sealed = DataKey(ALICE, KEY).seal("sealed_share", b"", b"share")

    with pytest.raises(SealingError):
        DataKey(ALICE, os.urandom(32)).open("sealed_share", b"", sealed)


def test_the_same_value_sealed_twice_looks_different() -> None:
    key = DataKey(ALICE, KEY)

    assert len({key.seal("sealed_share", b"", b"share") for _ in range(100)}) == 100


def test_the_key_shows_nowhere() -> None:
    key = DataKey(ALICE, KEY)

    assert repr(key) == "DataKey(<hidden>)"
    with pytest.raises(TypeError):
        pickle.dumps(key)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DataKey(ALICE, bytes(length))
