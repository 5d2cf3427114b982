"""Rotation inside the circuit: the clear rule over every rotation, wires used again, and the two parties over bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clear_circuits import evaluate_many
from parties import Capture, enrol, run

from mpc.circuits.matchers import MaskedRule, PlainRule, Rotations, matcher
from mpc.login.device_side import Match
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED
from mpc.primitives.bit_matrix import Bits

SMALL = Profile(
    name="turned-512",
    code_bits=512,
    threshold=0,
    encoder_id="test encoder",
    masked=True,
    min_valid=384,
    ratio_numerator=80,
    ratio_shift=8,
    columns=32,
    rotation=2,
)


def clear_accepts(profile: Profile, code: Bits, mask: Bits, probe: Bits, probe_mask: Bits) -> bool:
    """The rule in words: in some rotation enough bits are usable in both, and few enough of those differ."""
    column = profile.code_bits // profile.columns
    for shift in range(-profile.rotation, profile.rotation + 1):
        turned, turned_mask = np.roll(probe, shift * column), np.roll(probe_mask, shift * column)
        usable = mask & turned_mask
        if profile.accepts(int(((code ^ turned) & usable).sum()), int(usable.sum())):
            return True
    return False


def drawn(profile: Profile, generator: np.random.Generator) -> tuple[Bits, ...]:
    """Template and mask, probe and mask, near the edges of the rule in one rotation, or anywhere."""
    n = profile.code_bits
    column = n // profile.columns
    code = generator.integers(0, 2, n, dtype=np.uint8)
    valid = (
        int(profile.min_valid + generator.integers(-2, 3))
        if generator.random() < 0.5
        else int(generator.integers(profile.min_valid, n + 1))
    )
    valid = min(valid, n)
    mask, probe_mask = np.ones(n, dtype=np.uint8), np.ones(n, dtype=np.uint8)
    hidden = generator.permutation(n)[: n - valid]
    mask[hidden[::2]] = 0
    probe_mask[hidden[1::2]] = 0
    probe = code.copy()
    usable = np.flatnonzero(mask & probe_mask)
    limit = profile.ratio_numerator * len(usable) >> profile.ratio_shift
    wrong = int(np.clip(limit + generator.integers(-2, 3), 0, len(usable)))
    probe[generator.permutation(usable)[:wrong]] ^= 1
    shift = int(generator.integers(-profile.rotation - 1, profile.rotation + 2)) * column
    return code, mask, np.roll(probe, shift), np.roll(probe_mask, shift)


def edges(profile: Profile) -> list[tuple[Bits, ...]]:
    n = profile.code_bits
    zeros, ones, odd = np.zeros(n, np.uint8), np.ones(n, np.uint8), (np.arange(n) % 2).astype(np.uint8)
    return [
        (code, mask, probe, probe_mask)
        for code in (zeros, ones, odd)
        for mask in (zeros, ones)
        for probe in (zeros, ones, odd)
        for probe_mask in (zeros, ones, odd)
    ]


@pytest.mark.parametrize(
    ("profile", "count", "batch"),
    [(SMALL, 10_000, 5_000), (PUBLISHED["iris-2048"], 10_000, 5_000), (PUBLISHED["iris-4096"], 10_000, 5_000)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_circuit_is_the_rule_in_plain_numbers(profile: Profile, count: int, batch: int) -> None:
    generator = np.random.default_rng(11)
    accepted = 0
    for start in range(0, count, batch):
        rows = [drawn(profile, generator) for _ in range(batch)] + (edges(profile) if not start else [])
        expected = [clear_accepts(profile, *row) for row in rows]
        outputs = evaluate_many(profile.circuit, np.array([np.concatenate(row) for row in rows]))
        assert outputs.tolist() == [int(one) for one in expected]
        accepted += sum(expected)
    assert 0.1 * count < accepted < 0.9 * count


def test_ten_thousand_inputs_to_the_face_matcher() -> None:
    profile = PUBLISHED["face-2048"]
    generator = np.random.default_rng(12)
    ones = np.concatenate([generator.integers(578, 590, 6000), generator.integers(0, 2049, 4000)])
    inputs = (generator.random((10_000, 2048)).argsort(axis=1) < ones[:, None]).astype(np.uint8)

    assert np.array_equal(evaluate_many(profile.circuit, inputs), ones <= 583)


@pytest.mark.parametrize("templates", [1, 2])
def test_any_template_in_any_rotation_is_enough(templates: int) -> None:
    profile = replace(SMALL, templates=templates)
    generator = np.random.default_rng(templates)
    codes = generator.integers(0, 2, (templates, 512), dtype=np.uint8)
    ones = np.ones(512, dtype=np.uint8)
    for hit in range(templates):
        for columns in range(-4, 5):
            row = np.concatenate([codes.reshape(-1), np.tile(ones, templates), np.roll(codes[hit], 16 * columns), ones])
            assert profile.circuit.evaluate(row) == (abs(columns) <= 2)


def test_the_transfers_are_paid_once_however_many_rotations() -> None:
    """Each rotation costs gates only: about as many as the matcher without rotation has."""
    rule = MaskedRule(384, 80, 8)
    plain = matcher(512, 1, rule)
    one, two, three = (matcher(512, 1, rule, Rotations(32, shift)) for shift in (1, 2, 3))

    assert one.inputs == two.inputs == three.inputs == 4 * 512
    assert two.ands - one.ands == three.ands - two.ands == 2 * (plain.ands + 1)
    assert SMALL.input_bits == two.inputs == SMALL.circuit.inputs


def capture(code: Bits, mask: Bits) -> Capture:
    return Capture(code.reshape(1, -1), mask.reshape(1, -1))


@pytest.mark.parametrize("columns", [-3, -2, 0, 1, 2, 3])
def test_both_parties_decide_a_turned_probe_as_in_the_clear(columns: int) -> None:
    generator = np.random.default_rng(5)
    code, mask = generator.integers(0, 2, 512, dtype=np.uint8), np.ones(512, dtype=np.uint8)
    mask[100:140] = 0
    pair = enrol(SMALL, enrolled=capture(code, mask))
    probe, probe_mask = np.roll(code, 16 * columns), np.roll(mask, 16 * columns)

    assert isinstance(run(pair, capture(probe, probe_mask)), Match) is (abs(columns) <= 2)


def test_a_probe_with_too_small_a_mask_is_refused_in_every_rotation() -> None:
    """Turning must not help an attacker who masks what does not fit."""
    code = np.random.default_rng(6).integers(0, 2, 512, dtype=np.uint8)
    pair = enrol(SMALL, enrolled=capture(code, np.ones(512, dtype=np.uint8)))
    for kept, accepted in ((384, True), (383, False), (0, False)):
        probe_mask = (np.arange(512) < kept).astype(np.uint8)
        assert isinstance(run(pair, capture(code, probe_mask)), Match) is accepted


@pytest.mark.parametrize(
    "change",
    [
        {"rotation": 9}, {"rotation": -1}, {"rotation": 0}, {"columns": 0}, {"columns": 3}, {"columns": 4},
        {"columns": 1024}, {"masked": False, "threshold": 100, "min_valid": 0, "ratio_numerator": 0, "ratio_shift": 0},
    ],
    ids=str,
)  # fmt: skip
def test_rotations_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=":"):
        Profile.from_dict(SMALL.as_dict() | change)


def test_a_plain_rule_has_no_rotations() -> None:
    with pytest.raises(AssertionError):
        matcher(512, 1, PlainRule(100), Rotations(32, 1))
