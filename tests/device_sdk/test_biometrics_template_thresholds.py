"""Thresholds for several templates: the rule, and that what is published and served by default follows from it."""

from __future__ import annotations

from statistics import NormalDist

import pytest

from authsvc.settings import Settings
from device_sdk.biometrics.template_thresholds import thresholds
from mpc.login.published_profiles import PUBLISHED


@pytest.mark.parametrize(("first", "mean", "deviation"), [(583, 983.4, 111.7), (655, 1024.0, 82.25), (70, 256, 20)])
def test_m_templates_together_match_strangers_no_more_often_than_one(first: int, mean: float, deviation: float) -> None:
    """And the next larger threshold would let them, so nobody is refused without need."""
    upper = NormalDist(-mean, deviation)

    def tail(threshold: int) -> float:
        """By Mills' continued fraction, which is exact far out and none of the library's."""
        z = (-threshold - upper.mean) / deviation
        fraction = z
        for step in range(60, 0, -1):
            fraction = z + step / fraction
        return upper.pdf(-threshold) * deviation / fraction

    found = thresholds(first, mean, deviation)

    assert len(found) == 5 and found[0] == first
    for count, threshold in enumerate(found[1:], start=2):
        assert count * tail(threshold) <= tail(first)
        assert count * tail(threshold + 1) > tail(first) or threshold == found[count - 2] - 1


def test_a_coarse_unit_still_goes_down_by_a_step() -> None:
    assert thresholds(30, 128, 10) == (30, 29, 28, 27, 26)


def test_no_threshold_comes_down_to_nothing() -> None:
    assert thresholds(3, 10, 5) == (3, 1)


@pytest.mark.parametrize(
    ("first", "mean", "deviation"), [(0, 100, 5), (100, 100, 5), (120, 100, 5), (50, 100, 0), (10, 1000, 10)]
)
def test_distances_that_tell_no_tail(first: int, mean: float, deviation: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        thresholds(first, mean, deviation)


# The groups of docs/encoders.md, "Several templates": the distances that ask for the largest steps.
PUBLISHED_FROM = {
    "face-2048": (983.4, 111.7),
    "iris-2048": (0.4890 * 256, 0.0351 * 256),
    "iris-4096": (0.4900 * 256, 0.0356 * 256),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_thresholds_follow_from_what_was_measured(name: str) -> None:
    profile = PUBLISHED[name]
    mean, deviation = PUBLISHED_FROM[name]
    first = profile.ratio_numerator or profile.threshold

    assert profile.thresholds == thresholds(first, mean, deviation, most=profile.max_templates)


def test_default_thresholds_follow_from_the_degrees_of_freedom_of_the_worst_probe() -> None:
    """155 of the constant probe; of what a mask leaves of it, three quarters."""
    profiles = Settings().policy().profiles

    for bits in (512, 1024, 2048, 4096):
        found = profiles[f"sim-{bits}"]
        assert found.thresholds == thresholds(found.threshold, bits / 2, bits / 2 / 155**0.5, most=3)
    masked = profiles["sim-2048-masked"]
    assert masked.thresholds == thresholds(masked.ratio_numerator, 128, 128 / (0.75 * 155) ** 0.5, most=3)
