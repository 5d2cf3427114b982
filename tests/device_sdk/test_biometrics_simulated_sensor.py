"""The simulated sensor has the statistics that it documents, measured on many simulated people."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from device_sdk.biometrics import BinaryCodeEncoder, SimulatedSensor, differing_and_valid, majority

PEOPLE = 500


@dataclass(frozen=True)
class Population:
    """Distances as fractions of the code."""

    templates: NDArray[np.uint8]
    two_captures: NDArray[np.float64]
    template_and_probe: NDArray[np.float64]
    two_people: NDArray[np.float64]


def measured(code_bits: int) -> Population:
    encoder = BinaryCodeEncoder(code_bits)
    captures = [SimulatedSensor(person, code_bits).captures(4) for person in range(PEOPLE)]
    templates = np.array([encoder.enrol(c[:3]).bits for c in captures])
    probes = np.array([c[3].bits for c in captures])
    first, second = np.array([c[0].bits for c in captures]), np.array([c[1].bits for c in captures])
    # With bits as signs the inner product is n - 2 distance.
    distances = 0.5 - (2.0 * templates - 1) @ (2.0 * probes - 1).T / (2 * code_bits)
    return Population(
        templates=templates,
        two_captures=(first != second).mean(axis=1),
        template_and_probe=distances.diagonal(),
        two_people=distances[~np.eye(PEOPLE, dtype=bool)],
    )


@pytest.fixture(scope="module", params=[512, 1024, 2048, 4096])
def population(request: pytest.FixtureRequest) -> Population:
    return measured(request.param)


def test_two_captures_of_a_person_differ_in_about_18_percent(population: Population) -> None:
    """And captures vary in quality, as real ones do: far more than independent bit errors would."""
    assert 0.17 <= population.two_captures.mean() <= 0.19
    assert 0.025 <= population.two_captures.std() <= 0.045
    assert 0.14 <= population.template_and_probe.mean() <= 0.17


def test_two_people_differ_as_250_coin_tosses_do(population: Population) -> None:
    """The false match rate follows from these two numbers."""
    mean, variance = population.two_people.mean(), population.two_people.var()

    assert 0.495 <= mean <= 0.505
    assert 200 <= mean * (1 - mean) / variance <= 300


def test_a_threshold_of_32_percent_separates_the_two(population: Population) -> None:
    """The threshold of the simulated profiles."""
    assert np.mean(population.template_and_probe > 0.32) <= 0.004
    assert population.two_people.min() > 0.32


def test_no_position_of_a_code_is_predictable(population: Population) -> None:
    """A probe of the population's most frequent bits must be nobody's."""
    favourite = (population.templates.mean(axis=0) >= 0.5).astype(np.uint8)

    for probe in (favourite, np.zeros_like(favourite), np.ones_like(favourite)):
        accepted = (population.templates != probe).mean(axis=1) <= 0.32
        assert accepted.mean() <= 0.004


def test_the_same_seeds_give_the_same_captures_and_no_two_are_alike() -> None:
    """Demonstrations and tests must repeat; logins must not."""
    first, again = (SimulatedSensor(b"alice", 512, capture_seed=7) for _ in range(2))

    series = [code.packed() for code in first.captures(20)]

    assert series == [again.capture().packed() for _ in range(20)]
    assert len(set(series)) == 20
    other_series = SimulatedSensor(b"alice", 512, capture_seed=8).capture()
    assert other_series.packed() not in series
    assert differing_and_valid(other_series, first.capture())[0] < 0.32 * 512


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, -1), (b"1", 1), (b"a", b"b"), (0, b"")])
def test_different_seeds_are_different_people(one: int | bytes, other: int | bytes) -> None:
    """Numbers and bytes do not collide either."""
    distance, valid = differing_and_valid(SimulatedSensor(one).capture(), SimulatedSensor(other).capture())

    assert distance > 0.36 * valid


def test_a_masked_sensor_hides_5_to_20_percent_and_noise_stands_there() -> None:
    """What is hidden tells nothing about the person."""
    hidden_distances = []
    for person in range(60):
        sensor = SimulatedSensor(person, 1024, masked=True)
        bare = SimulatedSensor(person, 1024)
        captures = sensor.captures(4)
        for code in captures:
            clear = bare.capture()
            assert code.mask is not None
            assert 0.05 <= 1 - code.valid_bits / 1024 <= 0.20
            usable = code.mask == 1
            assert np.array_equal(code.bits[usable], clear.bits[usable])
            hidden_distances.append(np.mean(code.bits[~usable] != clear.bits[~usable]))
        template = majority(captures[:3])
        distance, valid = differing_and_valid(template, captures[3])
        assert valid >= 0.75 * 1024
        assert distance <= 0.34 * valid
    assert 0.48 <= np.mean(hidden_distances) <= 0.52


def test_the_sensor_says_that_it_is_simulated_and_keeps_its_seeds() -> None:
    """Nobody should mistake it for a reader, and its seeds are the person."""
    sensor = SimulatedSensor(b"secret-person", capture_seed=b"secret-series")

    for text in (repr(sensor), sensor.description, type(sensor).__name__):
        assert "simulated" in text.lower()
        assert "secret" not in text
    assert "2048 bits" in repr(sensor)


@pytest.mark.parametrize("code_bits", [1, 7, 16, 100])
def test_short_codes_work(code_bits: int) -> None:
    """Tests of the protocol use them."""
    for masked in (False, True):
        code = SimulatedSensor(3, code_bits, masked).capture()
        assert code.code_bits == code_bits
        assert (code.mask is not None) == masked


def test_another_genuine_error_is_met() -> None:
    """The calibration is computed, not a table for one value."""
    pairs = [SimulatedSensor(p, 512, genuine_error=0.08).captures(2) for p in range(300)]

    assert 0.07 <= np.mean([differing_and_valid(a, b)[0] / 512 for a, b in pairs]) <= 0.09


@pytest.mark.parametrize(
    ("code_bits", "error"), [(0, 0.18), (65537, 0.18), (512, 0.0), (512, 0.5), (512, float("nan"))]
)
def test_a_sensor_that_cannot_work_is_not_built(code_bits: int, error: float) -> None:
    """A mistake in configuration is told when it is made."""
    with pytest.raises(ValueError, match="must be"):
        SimulatedSensor(1, code_bits, genuine_error=error)


def test_captures_stay_the_same_across_releases() -> None:
    """Recorded demonstrations and the vectors of other tests rest on these codes."""
    digest = hashlib.sha256()
    for code_bits, masked in ((512, False), (2048, False), (2048, True)):
        for code in SimulatedSensor(1, code_bits, masked, capture_seed=b"pin").captures(2):
            digest.update(code.packed() + (code.packed_mask() or b""))

    assert digest.hexdigest() == "654f6c204e2fefdc9e7296d67b058374cb8e90fece234ab23a579efa072416b2"
