"""Garbling: what the evaluator gets is the label of the clear result, and it agrees with a second implementation."""

from __future__ import annotations

import numpy as np
import plain_half_gates
import pytest
from clear_circuits import at_distance, random_circuits
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import MASKED, PLAIN, plain_profile

from mpc.circuits.circuit import Circuit, GateKind
from mpc.circuits.matchers import PlainRule, matcher
from mpc.garbling.evaluator import evaluate
from mpc.garbling.garbler import Garbled, garble
from mpc.garbling.hashing import input_whitening, tables_bytes
from mpc.login.profile import Profile
from mpc.primitives.aes import Blocks, blocks_from_bytes
from mpc.primitives.bit_matrix import Bits

SID = bytes(range(32))
DELTA = bytes.fromhex("0123456789abcdef0fedcba987654321")
Drawn = tuple[Circuit, list[tuple[str, int, int]]]


def zero_labels(circuit: Circuit, seed: int = 1) -> Blocks:
    return np.random.default_rng(seed).integers(0, 2**64, (circuit.inputs, 2), dtype=np.uint64)


def active_labels(zeros: Blocks, inputs: Bits, delta: bytes = DELTA) -> Blocks:
    return zeros ^ inputs.astype(np.uint64)[:, None] * blocks_from_bytes(delta)


def integers(labels: Blocks) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in labels]


def outcome(circuit: Circuit, garbled: Garbled, label: bytes) -> int:
    """The bit whose label this is; every other label fails the test."""
    assert label in (garbled.reject_label, garbled.accept_label)
    return int(label == garbled.accept_label)


@given(random_circuits(), st.integers(0, 2**9 - 1), st.integers(0, 2**32), st.binary(min_size=16, max_size=16))
@settings(max_examples=200, deadline=None)
def test_evaluating_the_garbled_circuit_is_evaluating_the_circuit(
    drawn: Drawn, number: int, seed: int, offset: bytes
) -> None:
    circuit, _ = drawn
    delta = bytes([offset[0] | 1]) + offset[1:]
    inputs = np.array([number >> j & 1 for j in range(circuit.inputs)], dtype=np.uint8)
    zeros = zero_labels(circuit, seed)

    garbled = garble(circuit, SID, delta, zeros)
    label = evaluate(circuit, SID, garbled.tables, active_labels(zeros, inputs, delta))

    assert outcome(circuit, garbled, label) == circuit.evaluate(inputs)
    assert len(garbled.tables) == tables_bytes(circuit)
    # the two output labels differ by Δ
    both = int.from_bytes(garbled.accept_label, "little") ^ int.from_bytes(garbled.reject_label, "little")
    assert both.to_bytes(16, "little") == delta


@given(random_circuits(), st.integers(0, 2**9 - 1), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_tables_and_labels_are_those_of_the_second_implementation(drawn: Drawn, number: int, seed: int) -> None:
    circuit, _ = drawn
    inputs = np.array([number >> j & 1 for j in range(circuit.inputs)], dtype=np.uint8)
    zeros = zero_labels(circuit, seed)
    active = active_labels(zeros, inputs)

    garbled = garble(circuit, SID, DELTA, zeros)

    tables, reject = plain_half_gates.garble(circuit, SID, int.from_bytes(DELTA, "little"), integers(zeros))
    assert garbled.tables == tables
    assert int.from_bytes(garbled.reject_label, "little") == reject
    expected = plain_half_gates.evaluate(circuit, SID, tables, integers(active))
    assert int.from_bytes(evaluate(circuit, SID, tables, active), "little") == expected


def test_the_matcher_is_garbled_as_by_the_second_implementation() -> None:
    zeros = zero_labels(PLAIN.circuit)

    garbled = garble(PLAIN.circuit, SID, DELTA, zeros)

    tables, reject = plain_half_gates.garble(PLAIN.circuit, SID, int.from_bytes(DELTA, "little"), integers(zeros))
    assert garbled.tables == tables and int.from_bytes(garbled.reject_label, "little") == reject


def test_the_whitening_is_that_of_the_second_implementation() -> None:
    assert integers(input_whitening(SID, 40)) == plain_half_gates.whitening(SID, 40)


@pytest.mark.parametrize(
    "profile",
    [*(plain_profile(bits) for bits in (512, 1024, 2048, 4096)), plain_profile(512, templates=5)],
    ids=lambda profile: f"{profile.code_bits}x{profile.templates}",
)
def test_garbled_matchers_decide_at_the_threshold(profile: Profile) -> None:
    generator = np.random.default_rng(profile.code_bits)
    circuit, zeros = profile.circuit, zero_labels(profile.circuit)
    garbled = garble(circuit, SID, DELTA, zeros)
    for distance in (0, profile.threshold - 1, profile.threshold, profile.threshold + 1, profile.code_bits):
        far = [at_distance(generator, profile.code_bits, profile.threshold + 1) for _ in range(profile.templates - 1)]
        inputs = np.concatenate([*far, at_distance(generator, profile.code_bits, distance)])
        label = evaluate(circuit, SID, garbled.tables, active_labels(zeros, inputs))
        assert outcome(circuit, garbled, label) == int(distance <= profile.threshold)


def test_the_garbled_masked_matcher_decides_like_the_clear_one() -> None:
    generator = np.random.default_rng(4)
    circuit, zeros = MASKED.circuit, zero_labels(MASKED.circuit)
    garbled = garble(circuit, SID, DELTA, zeros)
    results = []
    for density in (0.05, 0.2, 0.31, 0.35, 0.5) * 6:
        inputs = np.concatenate([generator.random(512) < density, generator.random(1024) < 0.93]).astype(np.uint8)
        label = evaluate(circuit, SID, garbled.tables, active_labels(zeros, inputs))
        results.append(outcome(circuit, garbled, label))
        assert results[-1] == circuit.evaluate(inputs)
    assert {0, 1} == set(results)


def test_another_session_gives_other_tables_and_its_tables_fit_nothing() -> None:
    """The key of the gate hash comes from the session id, so tables cannot be carried over."""
    circuit, zeros = PLAIN.circuit, zero_labels(PLAIN.circuit)
    inputs = np.zeros(512, dtype=np.uint8)
    garbled, other = garble(circuit, SID, DELTA, zeros), garble(circuit, bytes(32), DELTA, zeros)
    known = {g.reject_label for g in (garbled, other)} | {g.accept_label for g in (garbled, other)}

    assert garbled.tables != other.tables
    assert evaluate(circuit, SID, other.tables, active_labels(zeros, inputs)) not in known


def test_no_table_row_and_no_label_repeats() -> None:
    garbled = garble(PLAIN.circuit, SID, DELTA, zero_labels(PLAIN.circuit))
    rows = {garbled.tables[at : at + 16] for at in range(0, len(garbled.tables), 16)}

    assert len(rows) == 2 * PLAIN.circuit.ands
    assert not rows & {DELTA, bytes(16)}


def test_equal_sizes_whatever_the_threshold() -> None:
    lengths = {
        len(garble(circuit, SID, DELTA, zero_labels(circuit)).tables)
        for circuit in (matcher(512, 1, PlainRule(threshold)) for threshold in (1, 60, 120, 255))
    }

    assert lengths == {511 * 32}


def test_tables_of_another_length_are_the_callers_error() -> None:
    circuit = PLAIN.circuit
    for length in (0, tables_bytes(circuit) - 16, tables_bytes(circuit) + 1):
        with pytest.raises(ValueError, match="do not fit"):
            evaluate(circuit, SID, bytes(length), zero_labels(circuit))


def test_colours_of_labels_are_balanced() -> None:
    """The colour bits that the evaluator sees of inner wires must not lean towards the wires' values."""
    circuit = PLAIN.circuit
    zeros = zero_labels(circuit)
    inputs = np.random.default_rng(3).integers(0, 2, 512, dtype=np.uint8)
    garbled = garble(circuit, SID, DELTA, zeros)
    rows = np.frombuffer(garbled.tables, dtype=np.uint8)
    bits = np.unpackbits(rows)

    # 4 standard deviations
    assert abs(int(bits.sum()) - len(bits) / 2) < 2 * len(bits) ** 0.5
    agree = active_labels(zeros, inputs)[:, 0] & np.uint64(1) == inputs
    assert abs(int(agree.sum()) - 256) < 2 * 512**0.5


def test_labels_are_not_shown() -> None:
    garbled = garble(PLAIN.circuit, SID, DELTA, zero_labels(PLAIN.circuit))

    assert repr(garbled) == "Garbled()"
    assert all(step.kind in (GateKind.AND, GateKind.XOR) for step in PLAIN.circuit.steps)
