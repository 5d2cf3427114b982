"""A profile for each number of templates an enrolment may have: its rule, circuit and digest, and what tightens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from clear_circuits import at_distance, evaluate_many
from parties import enrol, probe_at, run

from mpc.circuits.circuit import Circuit
from mpc.login.device_side import Match, NoMatch
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED
from mpc.primitives.bit_matrix import Bits

PLAIN = Profile(name="p", code_bits=512, threshold=163, encoder_id="e", thresholds=(163, 160, 158))
MASKED = Profile(
    name="m", code_bits=512, threshold=0, encoder_id="e", masked=True, min_valid=384, ratio_numerator=82,
    ratio_shift=8, thresholds=(82, 80, 78),
)  # fmt: skip
BOTH = [PLAIN, MASKED]


@pytest.mark.parametrize("profile", BOTH, ids=lambda p: p.name)
def test_each_number_of_templates_has_its_rule_sizes_and_digest(profile: Profile) -> None:
    """The digest goes into every login: two sides that count differently never agree on one."""
    of = [profile.with_templates(count) for count in (1, 2, 3)]

    assert [max(one.threshold, one.ratio_numerator) for one in of] == list(profile.thresholds)
    assert [one.template_bytes for one in of] == [64, 128, 192]
    assert len({one.digest for one in of}) == 3
    assert [one.max_templates for one in of] == [3, 3, 3]
    assert of[0] == profile and of[2].with_templates(1) == profile
    for count in (0, 4, -1):
        with pytest.raises(ValueError, match="no threshold for"):
            profile.with_templates(count)


def test_without_thresholds_the_number_never_changes() -> None:
    fixed = Profile(name="p", code_bits=512, threshold=163, encoder_id="e", templates=2)

    assert fixed.max_templates == 2 and fixed.with_templates(2) == fixed
    with pytest.raises(ValueError, match="no threshold for 1"):
        fixed.with_templates(1)


def test_thresholds_are_in_the_digest() -> None:
    """A device that pinned them is never told later that a second template comes with a looser one."""
    assert replace(PLAIN, thresholds=(163, 162, 158)).digest != PLAIN.digest
    assert replace(PLAIN, thresholds=()).digest != PLAIN.digest


@pytest.mark.parametrize("profile", [*BOTH, *PUBLISHED.values()], ids=lambda p: p.name)
def test_the_map_gives_the_profile_back(profile: Profile) -> None:
    for count in range(1, profile.max_templates + 1):
        one = profile.with_templates(count)
        assert Profile.from_dict(one.as_dict()) == one


@pytest.mark.parametrize(
    "thresholds",
    [(163, 163), (163, 164), (162, 160), (163, 0), (163, 160, 158, 157, 156, 155), (163, -1)],
    ids=str,
)
def test_thresholds_that_make_no_sense(thresholds: tuple[int, ...]) -> None:
    """The same number twice would let the chances of a stranger add up."""
    with pytest.raises(ValueError, match="thresholds"):
        replace(PLAIN, thresholds=thresholds)


def test_more_of_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="thresholds"):
        replace(PLAIN, templates=2, threshold=160, thresholds=(300, 160))
    with pytest.raises(ValueError, match="thresholds"):
        replace(PLAIN, templates=4)
    with pytest.raises(ValueError, match="thresholds"):
        replace(MASKED, templates=2, ratio_numerator=82)


@pytest.mark.parametrize("value", [None, 163, "163", {}, (163, 160), ["163"], [True], [163.0], [[163]]], ids=repr)
def test_thresholds_of_another_type(value: Any) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        Profile.from_dict({**PLAIN.as_dict(), "thresholds": value})


@pytest.mark.parametrize(
    ("changes", "tightens"),
    [
        ({"thresholds": (163, 160)}, True),
        ({"thresholds": ()}, True),
        ({"threshold": 162, "thresholds": (162, 159, 157)}, True),
        ({"thresholds": (163, 159, 157)}, True),
        ({"thresholds": (163, 161, 158)}, False),
        ({"thresholds": (163, 160, 158, 157)}, False),
        ({"threshold": 162, "thresholds": (162, 161, 160)}, False),
        ({"templates": 2, "threshold": 160}, False),
        ({"masked": True, "threshold": 0, "min_valid": 384, "ratio_numerator": 70, "ratio_shift": 8,
          "thresholds": ()}, False),
        ({}, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_stricter(changes: dict[str, Any], tightens: bool) -> None:
    """Fewer templates, or a smaller number for any of them; never a larger one."""
    assert replace(PLAIN, **changes).tightens(PLAIN) is tightens


def differing(profile: Profile, generator: np.random.Generator, rows: int) -> Bits:
    """Differences of templates and probe, each template's around its threshold; one row an input."""
    count, bits = profile.templates, profile.code_bits
    near = generator.integers(-4, 5, (rows, count)) + profile.threshold
    ranks = generator.random((rows, count, bits)).argsort(axis=2)
    found: Bits = (ranks < near[:, :, None]).astype(np.uint8).reshape(rows, count * bits)
    return found


@pytest.mark.parametrize("count", [1, 2, 3])
def test_ten_thousand_inputs_around_the_adjusted_threshold(count: int) -> None:
    """The circuit's decision is that of the rule in plain numbers: near enough to one of the templates."""
    profile = PLAIN.with_templates(count)
    generator = np.random.default_rng(count)
    for _ in range(4):  # a quarter at a time, for the memory's sake
        inputs = differing(profile, generator, 2500)
        distances = inputs.reshape(2500, count, 512).sum(axis=2)
        expected = (distances <= PLAIN.thresholds[count - 1]).any(axis=1)
        assert np.array_equal(evaluate_many(profile.circuit, inputs), expected)
        assert 0 < expected.sum() < 2500


@pytest.mark.parametrize("count", [1, 2, 3])
def test_masked_inputs_around_the_adjusted_ratio(count: int) -> None:
    """Every template at, below and above the largest distance that its usable bits allow."""
    profile, generator = MASKED.with_templates(count), np.random.default_rng(count)
    rows = []
    expected = []
    for _ in range(300):
        probe_mask = at_distance(generator, 512, int(generator.integers(440, 513)))
        codes, masks, accepted = [], [], []
        for _ in range(count):
            mask = at_distance(generator, 512, int(generator.integers(440, 513)))
            usable = np.flatnonzero(mask & probe_mask)
            most = profile.ratio_numerator * len(usable) >> profile.ratio_shift
            chosen = generator.choice(usable, most + int(generator.integers(-1, 3)), replace=False)
            code = generator.integers(0, 2, 512, dtype=np.uint8) & ~(mask & probe_mask) & 1
            code[chosen] = 1
            codes.append(code)
            masks.append(mask)
            accepted.append(profile.accepts(len(chosen), len(usable)))
        rows.append(np.concatenate([*codes, *masks, probe_mask]))
        expected.append(any(accepted))

    assert evaluate_many(profile.circuit, np.array(rows)).tolist() == expected
    assert 0 < sum(expected) < 300


TURNED = replace(MASKED, columns=64, rotation=2, thresholds=(82, 80))


@pytest.mark.parametrize("family", [PUBLISHED["face-2048"], TURNED], ids=lambda p: p.name)
def test_the_last_distance_that_is_near_enough(family: Profile) -> None:
    """The limit for so many is accepted, one bit more is not; with rotations too, as the irises have."""
    for count in range(2, family.max_templates + 1):
        profile = family.with_templates(count)
        n, generator = profile.code_bits, np.random.default_rng(count)
        limit = max(distance for distance in range(n // 2) if profile.accepts(distance, n))
        circuit: Circuit = profile.circuit
        for last, accepted in ((limit, True), (limit + 1, False)):
            away = [at_distance(generator, n, limit + 1 if at else last) for at in range(count)]
            # With rotations a probe of zeros looks the same turned, so that all five are at this distance.
            more = [np.ones(count * n, np.uint8), np.zeros(n, np.uint8), np.ones(n, np.uint8)] if profile.masked else []
            assert evaluate_many(circuit, np.array([np.concatenate([*away, *more])]))[0] == accepted


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_whole_login_decides_so(count: int) -> None:
    """Both sides' own code at the adjusted threshold: a signature at it, none one bit beyond."""
    pair = enrol(PLAIN.with_templates(count))
    limit = PLAIN.thresholds[count - 1]
    others = [limit + 1] * (count - 1)

    assert isinstance(run(pair, probe_at(pair.enrolled, *others, limit)), Match)
    assert run(pair, probe_at(pair.enrolled, *others, limit + 1)) == NoMatch()
