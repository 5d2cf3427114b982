"""Iris codes: the OpenIris format bit by bit, what the reduction keeps, and how far the simulation is what it says."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from device_sdk.biometrics import EncodingError, differing_and_valid
from device_sdk.biometrics.iris import IrisCode, IrisEncoder, SimulatedIris
from device_sdk.biometrics.iris.iris_code import fractional_distance
from device_sdk.errors import InconsistentCaptures
from mpc.login.published_profiles import PUBLISHED

SHAPE = (16, 200, 2, 2)


def text_of(bits: np.ndarray) -> str:
    """Packed by hand: the first bit of a byte is its most significant one."""
    flat = bits.reshape(-1).tolist()
    packed = bytes(
        sum(bit << (7 - place) for place, bit in enumerate(flat[at : at + 8])) for at in range(0, len(flat), 8)
    )
    return base64.b64encode(packed).decode()


def template_of(code: np.ndarray, mask: np.ndarray) -> dict[str, str]:
    return {"iris_codes": text_of(code), "mask_codes": text_of(mask), "iris_code_version": "v3.0"}


@pytest.mark.parametrize(
    "place", [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0), (0, 1, 0, 0), (3, 77, 1, 0), (15, 199, 1, 1)]
)
def test_every_bit_of_an_openiris_template_is_where_it_belongs(place: tuple[int, int, int, int]) -> None:
    code = np.zeros(SHAPE, dtype=np.uint8)
    code[place] = 1

    read = IrisCode.from_openiris(json.dumps(template_of(code, 1 - code)))

    assert np.array_equal(read.code, code) and np.array_equal(read.mask, 1 - code)
    row, column, wavelet, part = place
    packed = base64.b64decode(read.to_openiris()["iris_codes"])
    at = ((row * 200 + column) * 2 + wavelet) * 2 + part
    assert [i for i in range(12_800) if packed[i // 8] >> (7 - i % 8) & 1] == [at]


def test_reading_what_was_written() -> None:
    iris = SimulatedIris(1).capture()
    again = IrisCode.from_openiris(iris.to_openiris())

    assert np.array_equal(again.code, iris.code) and np.array_equal(again.mask, iris.mask)


GOOD = template_of(np.zeros(SHAPE, np.uint8), np.ones(SHAPE, np.uint8))


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{", "wrong_type"), ("[]", "wrong_type"), ("7", "wrong_type"), (b"\xff\xfe", "wrong_type"), ({}, "wrong_type"),
        ({**GOOD, "mask_codes": "*"}, "wrong_type"), ({**GOOD, "mask_codes": 7}, "wrong_type"),
        ({**GOOD, "iris_codes": "AAAA"}, "wrong_shape"), ("[" * 100_000, "wrong_type"), ("1" * (1 << 21), "wrong_type"),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_what_is_no_template_is_refused(template: object, code: str) -> None:
    with pytest.raises(EncodingError) as caught:
        IrisCode.from_openiris(template)  # type: ignore[arg-type]
    assert caught.value.code == code


@pytest.mark.parametrize(("bits", "rows"), [(2048, 8), (4096, 16)])
def test_the_reduction_goes_column_by_column(bits: int, rows: int) -> None:
    """The circuit turns a probe by whole columns, so a column must be one run of bits."""
    generator = np.random.default_rng(1)
    code, mask = generator.integers(0, 2, SHAPE, dtype=np.uint8), generator.integers(0, 2, SHAPE, dtype=np.uint8)
    reduced = IrisCode(code, mask).reduced(bits)
    assert reduced.mask is not None

    for column in (0, 1, 31, 63):
        for row in (0, 1, rows - 1):
            for wavelet in (0, 1):
                for part in (0, 1):
                    at = ((column * rows + row) * 2 + wavelet) * 2 + part
                    place = (row * 16 // rows, column * 200 // 64, wavelet, part)
                    assert (reduced.bits[at], reduced.mask[at]) == (code[place], mask[place])
    profile = PUBLISHED[f"iris-{bits}"]
    encoder = IrisEncoder(bits)
    assert (encoder.encoder_id, encoder.code_bits, encoder.masked) == (profile.encoder_id, bits, True)
    assert profile.columns == 64


def test_other_lengths_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError):
        IrisEncoder(1024)
    with pytest.raises(EncodingError):
        SimulatedIris(1).capture().reduced(1024)
    with pytest.raises(EncodingError):
        IrisCode(np.zeros((4, 200, 2, 2), np.uint8), np.zeros((4, 200, 2, 2), np.uint8)).reduced(2048)
    for code, mask in ((np.full(SHAPE, 2), np.ones(SHAPE, int)), (np.zeros((2, 2)), np.zeros((2, 2)))):
        with pytest.raises(EncodingError):
            IrisCode(code, mask)
    with pytest.raises(EncodingError):
        IrisEncoder().encode(np.zeros(12_800, np.uint8))


def test_captures_are_turned_to_fit_before_they_are_enrolled() -> None:
    """Turned by some columns, a majority of captures would be of nobody."""
    eye = SimulatedIris(7)
    first = eye.capture()
    turned = [first, first.turned(4), first.turned(-9)]
    encoder = IrisEncoder(2048)

    assert encoder.enrol(turned).packed() == encoder.enrol([first] * 3).packed()
    with pytest.raises(InconsistentCaptures):
        encoder.enrol(
            [first, first, SimulatedIris(8).capture()], lambda one, other: differing_and_valid(one, other)[0] < 600
        )


def test_the_simulation_has_the_statistics_it_claims() -> None:
    """Degrees of freedom, distance within an eye, occlusion and rotation, each with room for the sampling error."""
    eyes = [SimulatedIris(number).captures(2) for number in range(90)]
    strangers = np.array([fractional_distance(a[0], b[0]) for i, a in enumerate(eyes) for b in eyes[:i]])
    own = [min(fractional_distance(a, b.turned(by)) for by in range(-10, 11)) for a, b in eyes]
    hidden = [1 - float(iris.mask.mean()) for pair in eyes for iris in pair]

    assert 190 < 0.25 / strangers.var() < 310 and abs(strangers.mean() - 0.5) < 0.01
    assert 0.12 < np.mean(own) < 0.25
    assert min(hidden) > 0.02 and max(hidden) < 0.25
    assert "simulated" in repr(SimulatedIris(1)).lower()


def test_an_eye_and_a_series_give_the_same_captures_again() -> None:
    one, again, other = (SimulatedIris(3, series).capture() for series in (0, 0, 1))

    assert np.array_equal(one.code, again.code) and not np.array_equal(one.code, other.code)
