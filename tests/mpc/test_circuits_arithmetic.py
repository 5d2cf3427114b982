"""Circuit arithmetic against Python's integers, and the builder's layers against the gates as they were written."""

from __future__ import annotations

import numpy as np
import pytest
from clear_circuits import at_distance, evaluate_gates, evaluate_many, random_circuits
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.circuits.arithmetic import (
    constant_number,
    count_exceeds,
    count_ones,
    greater_than,
    sum_of_planes,
    times_constant,
)
from mpc.circuits.builder import CircuitBuilder
from mpc.circuits.circuit import FIRST_INPUT, Circuit, GateKind


def bits_of(number: int, width: int) -> list[int]:
    return [number >> weight & 1 for weight in range(width)]


def value_of(build: CircuitBuilder, wires: list[int], inputs: list[int]) -> int:
    """The number that the wires hold, by one circuit for each of them."""
    values = [build.finish(wire).evaluate(np.array(inputs, dtype=np.uint8)) for wire in wires]
    return sum(bit << weight for weight, bit in enumerate(values))


@given(random_circuits(), st.integers(0, 2**9 - 1))
@settings(max_examples=200, deadline=None)
def test_layers_compute_what_was_written(drawn: tuple[Circuit, list[tuple[str, int, int]]], number: int) -> None:
    circuit, gates = drawn
    inputs = bits_of(number, circuit.inputs)

    assert circuit.evaluate(np.array(inputs, dtype=np.uint8)) == evaluate_gates(gates, inputs)
    assert circuit.ands == sum(kind == "and" for kind, _, _ in gates)
    assert (
        evaluate_many(circuit, np.array([inputs] * 3, dtype=np.uint8)).tolist() == [evaluate_gates(gates, inputs)] * 3
    )


@given(random_circuits())
@settings(max_examples=50, deadline=None)
def test_operands_come_from_earlier_layers_and_layers_follow_each_other(
    drawn: tuple[Circuit, list[tuple[str, int, int]]],
) -> None:
    circuit, _ = drawn
    expected = FIRST_INPUT + circuit.inputs
    for step in circuit.steps:
        assert step.first_output == expected
        assert max(*step.left, *step.right) < step.first_output and min(*step.left, *step.right) >= 0
        expected = step.stop
    assert expected == circuit.wires


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_counting_ones(inputs: list[int]) -> None:
    build = CircuitBuilder(len(inputs))

    number = count_ones(build, list(build.inputs))

    assert len(number) == len(inputs).bit_length()
    assert value_of(build, number, inputs) == sum(inputs)


@given(
    st.dictionaries(st.integers(0, 4), st.lists(st.integers(0, 1), max_size=9), max_size=4),
    st.integers(1, 8),
)
@settings(max_examples=80, deadline=None)
def test_sums_of_weighted_bits_are_right_modulo_their_width(planes: dict[int, list[int]], width: int) -> None:
    inputs = [bit for bits in planes.values() for bit in bits]
    build = CircuitBuilder(len(inputs))
    wires = iter(build.inputs)

    number = sum_of_planes(build, {weight: [next(wires) for _ in bits] for weight, bits in planes.items()}, width)

    total = sum(sum(bits) << weight for weight, bits in planes.items())
    assert len(number) == width
    assert value_of(build, number, inputs) == total % 2**width


@given(st.integers(0, 255), st.integers(1, 8), st.integers(0, 4095), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_times_a_wired_constant(number: int, width: int, factor: int, factor_bits: int) -> None:
    number, factor = number % 2**width, factor % 2**factor_bits
    build = CircuitBuilder(width)

    product = times_constant(build, list(build.inputs), factor, factor_bits)

    assert value_of(build, product, bits_of(number, width)) == number * factor


@given(st.integers(0, 2**9 - 1), st.integers(0, 2**9 - 1), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_greater_than(left: int, right: int, left_width: int, right_width: int) -> None:
    """Also between numbers of different widths."""
    left, right = left % 2**left_width, right % 2**right_width
    build = CircuitBuilder(left_width + right_width)
    wires = list(build.inputs)

    output = greater_than(build, wires[:left_width], wires[left_width:])

    inputs = bits_of(left, left_width) + bits_of(right, right_width)
    assert build.finish(output).evaluate(np.array(inputs, dtype=np.uint8)) == (left > right)


@given(st.integers(0, 200), st.integers(8, 10))
@settings(max_examples=20, deadline=None)
def test_constants_are_wires(value: int, width: int) -> None:
    build = CircuitBuilder(0)

    assert value_of(build, constant_number(build, value, width), []) == value


@pytest.mark.parametrize("inputs", range(1, 9))
def test_the_and_of_all(inputs: int) -> None:
    build = CircuitBuilder(inputs)
    circuit = build.finish(build.not_(build.not_(build.all_of(list(build.inputs)))))

    everything = np.array([bits_of(number, inputs) for number in range(2**inputs)], dtype=np.uint8)

    assert evaluate_many(circuit, everything).tolist() == everything.all(axis=1).astype(int).tolist()


@pytest.mark.parametrize("size", [*range(1, 10), 12])
def test_count_exceeds_for_every_input_and_every_limit(size: int) -> None:
    everything = np.array([bits_of(number, size) for number in range(2**size)], dtype=np.uint8)
    for limit in range(size):
        build = CircuitBuilder(size)
        circuit = build.finish(build.xor(count_exceeds(build, list(build.inputs), limit), build.constant(0)))
        expected = (everything.sum(axis=1) > limit).astype(int)
        assert evaluate_many(circuit, everything).tolist() == expected.tolist()


@given(st.integers(13, 300), st.data())
@settings(max_examples=30, deadline=None)
def test_count_exceeds_at_the_limit_for_any_size(size: int, data: st.DataObject) -> None:
    """Sizes that are no power of two too: the carry-out formula must not depend on that."""
    limit = data.draw(st.integers(0, size - 1))
    build = CircuitBuilder(size)
    circuit = build.finish(build.xor(count_exceeds(build, list(build.inputs), limit), build.constant(0)))
    generator = np.random.default_rng(size)
    counts = sorted({0, 1, limit - 1, limit, limit + 1, limit + 2, size - 1, size} & set(range(size + 1)))

    inputs = np.array([at_distance(generator, size, ones) for ones in counts])

    assert evaluate_many(circuit, inputs).tolist() == [int(ones > limit) for ones in counts]


@given(st.integers(2, 300), st.data())
@settings(max_examples=20, deadline=None)
def test_the_layout_of_a_count_says_nothing_of_the_limit(size: int, data: st.DataObject) -> None:
    shapes = set()
    for limit in {0, size - 1, data.draw(st.integers(0, size - 1))}:
        build = CircuitBuilder(size)
        circuit = build.finish(build.not_(count_exceeds(build, list(build.inputs), limit)))
        shapes.add(tuple((step.kind, len(step.left)) for step in circuit.steps))
    assert len(shapes) == 1


@pytest.mark.parametrize("size", [2, 4, 64, 512, 4096])
def test_a_power_of_two_costs_one_and_less_than_its_bits(size: int) -> None:
    build = CircuitBuilder(size)
    circuit = build.finish(build.not_(count_exceeds(build, list(build.inputs), size // 4)))

    assert circuit.ands == size - 1
    assert {step.kind for step in circuit.steps} == {GateKind.AND, GateKind.XOR}
