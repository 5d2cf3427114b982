"""The matchers against the rule in plain numbers, and pins of the gate order that a second implementation needs."""

from __future__ import annotations

import numpy as np
import pytest
from clear_circuits import at_distance, evaluate_many
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import MASKED, PLAIN, plain_profile

from mpc.circuits.circuit import Circuit
from mpc.circuits.matchers import MaskedRule, PlainRule, matcher
from mpc.login.profile import Profile
from mpc.primitives.bit_matrix import Bits

RULE = MaskedRule(min_valid=384, ratio_numerator=80, ratio_shift=8)


def masked_accepts(rule: MaskedRule, differences: Bits, template_mask: Bits, probe_mask: Bits) -> bool:
    usable = template_mask & probe_mask
    valid, distance = int(usable.sum()), int((differences & usable).sum())
    return valid >= rule.min_valid and distance * 2**rule.ratio_shift <= rule.ratio_numerator * valid


def edge_vectors(bits: int, threshold: int, seed: int) -> Bits:
    """Vectors at and around the threshold, extremes, runs and patterns."""
    generator = np.random.default_rng(seed)
    near = [threshold + step for step in range(-3, 4)]
    rows = [at_distance(generator, bits, ones) for ones in near if 0 <= ones <= bits for _ in range(3)]
    positions = np.arange(bits)
    rows += [
        np.zeros(bits, dtype=np.uint8),
        np.ones(bits, dtype=np.uint8),
        (positions % 2).astype(np.uint8),
        (positions % 3 == 0).astype(np.uint8),
        (positions < threshold).astype(np.uint8),
        (positions <= threshold).astype(np.uint8),
        (positions >= bits - threshold).astype(np.uint8),
        (positions >= bits - threshold - 1).astype(np.uint8),
    ]
    return np.array(rows)


def test_ten_thousand_inputs_to_the_512_bit_matcher() -> None:
    generator = np.random.default_rng(1)
    circuit = PLAIN.circuit
    near = generator.integers(PLAIN.threshold - 6, PLAIN.threshold + 7, 6000)
    anywhere = generator.integers(0, 513, 4000)
    # a random order of the positions for each row, the first `ones` of them set
    ranks = generator.random((10_000, 512)).argsort(axis=1)
    inputs = (ranks < np.concatenate([near, anywhere])[:, None]).astype(np.uint8)
    edges = edge_vectors(512, PLAIN.threshold, 2)
    inputs = np.concatenate([inputs, edges])

    outputs = evaluate_many(circuit, inputs)

    expected = inputs.sum(axis=1) <= PLAIN.threshold
    assert np.array_equal(outputs, expected)
    assert 2000 < expected.sum() < 9000
    # the two clear evaluations agree
    assert [circuit.evaluate(row) for row in edges] == outputs[10_000:].tolist()


@pytest.mark.parametrize("bits", [512, 1024, 2048, 4096])
def test_every_size_decides_rightly_at_the_edges_of_every_threshold(bits: int) -> None:
    for threshold in {1, 2, 127, 128, bits // 4 - 1, bits // 4, bits // 2 - 2, bits // 2 - 1}:
        inputs = edge_vectors(bits, threshold, bits)
        circuit = matcher(bits, 1, PlainRule(threshold))
        assert np.array_equal(evaluate_many(circuit, inputs), inputs.sum(axis=1) <= threshold)


@pytest.mark.parametrize("templates", [1, 2, 3, 4, 5])
def test_one_matching_template_is_enough(templates: int) -> None:
    """Every combination of near and far, at the threshold and one beyond it."""
    generator = np.random.default_rng(templates)
    circuit = matcher(512, templates, PlainRule(120))
    combinations = range(2**templates)
    inputs = np.array(
        [
            np.concatenate([at_distance(generator, 512, 121 - (which >> k & 1)) for k in range(templates)])
            for which in combinations
        ]
    )

    assert evaluate_many(circuit, inputs).tolist() == [int(which > 0) for which in combinations]


def masked_inputs(generator: np.random.Generator, templates: int, rule: MaskedRule) -> tuple[Bits, list[Bits]]:
    """One input near the edges of the rule, and its blocks."""
    valid = int(generator.choice([rule.min_valid - 1, rule.min_valid, rule.min_valid + 1, 450, 511, 512]))
    probe_mask = at_distance(generator, 512, max(valid, int(generator.integers(valid, 513))))
    blocks = []
    for _ in range(templates):
        template_mask = np.ones(512, dtype=np.uint8)
        usable = np.flatnonzero(probe_mask)
        template_mask[generator.choice(usable, len(usable) - valid, replace=False)] = 0
        limit = rule.ratio_numerator * valid >> rule.ratio_shift
        distance = max(0, limit + int(generator.integers(-2, 3)))
        differences = generator.integers(0, 2, 512, dtype=np.uint8)
        both = np.flatnonzero(template_mask & probe_mask)
        differences[both] = 0
        differences[generator.choice(both, distance, replace=False)] = 1
        blocks.append((differences, template_mask))
    codes, masks = [code for code, _ in blocks], [mask for _, mask in blocks]
    parts = [*codes, *masks, probe_mask]
    return np.concatenate(parts), parts


@pytest.mark.parametrize(
    ("templates", "rule", "count"),
    [
        (1, RULE, 1500),
        (1, MaskedRule(400, 1365, 12), 600),
        (1, MaskedRule(384, 1, 2), 400),
        (2, RULE, 400),
        (3, RULE, 200),
        (5, RULE, 100),
    ],
    ids=lambda value: str(value)[:12],
)
def test_the_masked_matcher_is_the_rule_in_plain_numbers(templates: int, rule: MaskedRule, count: int) -> None:
    generator = np.random.default_rng(7)
    drawn = [masked_inputs(generator, templates, rule) for _ in range(count)]
    expected = [
        any(masked_accepts(rule, parts[k], parts[templates + k], parts[-1]) for k in range(templates))
        for _, parts in drawn
    ]

    outputs = evaluate_many(matcher(512, templates, rule), np.array([row for row, _ in drawn]))

    assert outputs.tolist() == [int(accepted) for accepted in expected]
    assert 0.05 * count < sum(expected) < 0.95 * count


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.75, 0.9, 1.0]), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_the_masked_matcher_on_random_inputs(seed: int, usable: float, different: float) -> None:
    generator = np.random.default_rng(seed)
    parts = [
        (generator.random((16, 512)) < density).astype(np.uint8) for density in (different, usable, max(usable, 0.9))
    ]

    outputs = evaluate_many(MASKED.circuit, np.concatenate(parts, axis=1))

    assert outputs.tolist() == [int(masked_accepts(RULE, *row)) for row in zip(*parts, strict=True)]


@pytest.mark.parametrize("probe_mask", [0, 1])
def test_a_probe_that_masks_everything_never_matches(probe_mask: int) -> None:
    """Nothing to compare is not a match: with the mask all 0, the distance would be 0."""
    inputs = np.concatenate([np.zeros(512), np.ones(512), np.full(512, probe_mask)]).astype(np.uint8)

    assert MASKED.circuit.evaluate(inputs) == probe_mask


@given(st.integers(0, 512), st.integers(0, 512))
def test_the_profile_states_the_same_rules_in_the_clear(distance: int, valid: int) -> None:
    assert PLAIN.accepts(distance, 512) == (distance <= PLAIN.threshold)
    assert MASKED.accepts(distance, valid) == (valid >= 384 and distance * 256 <= 80 * valid)


def shape(circuit: Circuit) -> list[tuple[int, int]]:
    return [(int(step.kind), len(step.left)) for step in circuit.steps]


@pytest.mark.parametrize(("bits", "templates"), [(512, 1), (512, 5), (2048, 1), (4096, 1)])
def test_sizes_and_layout_say_nothing_of_the_threshold(bits: int, templates: int) -> None:
    circuits = [matcher(bits, templates, PlainRule(threshold)) for threshold in (1, 100, bits // 4, bits // 2 - 1)]

    assert len({circuit.ands for circuit in circuits}) == 1
    assert all(shape(circuit) == shape(circuits[0]) for circuit in circuits)
    # the thresholds themselves are in the digest
    assert len({circuit.digest for circuit in circuits}) == len(circuits)


def test_sizes_and_layout_say_nothing_of_the_masked_rule() -> None:
    rules = [MaskedRule(384, 1, 8), MaskedRule(512, 127, 8), MaskedRule(400, 64, 8), RULE]
    circuits = [matcher(512, 1, rule) for rule in rules]

    assert all(shape(circuit) == shape(circuits[0]) for circuit in circuits)
    assert len({circuit.digest for circuit in circuits}) == len(circuits)


# Computed by `matcher`; a change is a change of the wire format, to be made on purpose and noted in CHANGELOG.
PINS: dict[str, tuple[Profile, int, str]] = {
    "plain 512": (plain_profile(512), 511, "90f8c8ab372400cb7ff5d8bba8b59cc5ca97a9f4d30ed99f1c19ed4fbe87f49f"),
    "plain 1024": (plain_profile(1024), 1023, "c714711354aa1dc5fd0ca8bee49f606c2d173129e7c788a5f9c05ecc693e436f"),
    "plain 2048": (plain_profile(2048), 2047, "1de3b3e347491e261edf17c05a072aa75d3fb7b09361bf9691860965b7220f0b"),
    "plain 4096": (plain_profile(4096), 4095, "b6d9389166fb417ed724d0529fa83dd44174ea8c05f5f47078e8ed340aef55ba"),
    "plain 512, 2 templates": (
        plain_profile(512, templates=2),
        1023,
        "f30c07814552c2f6849697718f512f87476fc47d7e3d3681e0a4cbc3e6a3ba51",
    ),
    "plain 512, 5 templates": (
        plain_profile(512, templates=5),
        2559,
        "b9f5115100438d0af8e6382220c25860501a038842a5786b55894f8d9db77f8b",
    ),
    "masked 512": (MASKED, 2225, "ae8d6752bf1380341993d22ef7cc8e1cd3f8b75d76757f71ffbcfd9d7935d292"),
}


@pytest.mark.parametrize("name", PINS)
def test_gate_order_and_count_are_pinned(name: str) -> None:
    profile, ands, digest = PINS[name]

    assert (profile.circuit.ands, profile.circuit.digest.hex()) == (ands, digest)


def test_every_field_is_in_the_profile_digest() -> None:
    variants = [
        PLAIN,
        Profile(name="other", code_bits=512, threshold=120, encoder_id="test encoder"),
        Profile(name="plain-512", code_bits=1024, threshold=120, encoder_id="test encoder"),
        Profile(name="plain-512", code_bits=512, threshold=121, encoder_id="test encoder"),
        Profile(name="plain-512", code_bits=512, threshold=120, encoder_id="another encoder"),
        Profile(name="plain-512", code_bits=512, threshold=120, encoder_id="test encoder", templates=2),
        MASKED,
        Profile(**{**MASKED.as_dict(), "min_valid": 385}),
        Profile(**{**MASKED.as_dict(), "ratio_numerator": 81}),
        Profile(**{**MASKED.as_dict(), "ratio_shift": 9}),
    ]

    assert len({profile.digest for profile in variants}) == len(variants)
    assert all(Profile.from_dict(profile.as_dict()).digest == profile.digest for profile in variants)


@pytest.mark.parametrize(
    "change",
    [
        {"code_bits": 256}, {"code_bits": 8192}, {"code_bits": 1000}, {"threshold": 0}, {"threshold": 256},
        {"templates": 0}, {"templates": 6}, {"name": ""}, {"name": "A"}, {"name": "a" * 41}, {"encoder_id": ""},
        {"encoder_id": "e" * 81}, {"min_valid": 1}, {"ratio_numerator": 1}, {"ratio_shift": 1},
        {"masked": True}, {"threshold": True}, {"threshold": 1.0}, {"masked": 1}, {"surprise": 1},
    ],
    ids=str,
)  # fmt: skip
def test_profiles_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=":"):
        Profile.from_dict(PLAIN.as_dict() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"min_valid": 383}, {"min_valid": 513}, {"ratio_numerator": 0}, {"ratio_numerator": 128}, {"threshold": 1},
        {"ratio_shift": 0}, {"ratio_shift": 13},
    ],
    ids=str,
)  # fmt: skip
def test_masked_profiles_that_an_attacker_could_choose_bits_in_are_refused(change: dict[str, object]) -> None:
    """Few bits kept, or a ratio of one half, is where false accepts explode."""
    with pytest.raises(ValueError, match=":"):
        Profile.from_dict(MASKED.as_dict() | change)
