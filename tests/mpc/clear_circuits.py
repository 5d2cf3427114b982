"""Evaluation of a circuit on many clear inputs at once, and random circuits: the tests' own view of a circuit."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from mpc.circuits.builder import CircuitBuilder
from mpc.circuits.circuit import FIRST_INPUT, Circuit, GateKind
from mpc.primitives.bit_matrix import Bits


def evaluate_many(circuit: Circuit, inputs: Bits) -> Bits:
    """The output for each row of `inputs`, shape (count, circuit.inputs): one wire holds one bit of every row."""
    count = len(inputs)
    packed = np.packbits(inputs, axis=0).T
    values = np.zeros((circuit.wires, packed.shape[1]), dtype=np.uint8)
    values[1] = 255
    values[FIRST_INPUT : FIRST_INPUT + circuit.inputs] = packed
    for step in circuit.steps:
        for gate, (left, right) in enumerate(zip(step.left, step.right, strict=True)):
            at = step.first_output + gate
            if step.kind is GateKind.XOR:
                np.bitwise_xor(values[left], values[right], out=values[at])
            else:
                np.bitwise_and(values[left], values[right], out=values[at])
    return np.unpackbits(values[circuit.output])[:count]


def at_distance(generator: np.random.Generator, bits: int, ones: int) -> Bits:
    """A random vector with exactly this many ones."""
    vector = np.zeros(bits, dtype=np.uint8)
    vector[generator.choice(bits, ones, replace=False)] = 1
    return vector


@st.composite
def random_circuits(draw: st.DrawFn) -> tuple[Circuit, list[tuple[str, int, int]]]:
    """(circuit, the gates it was written from): handles are those of the builder, the output is the last gate."""
    inputs = draw(st.integers(1, 9))
    build = CircuitBuilder(inputs)
    gates: list[tuple[str, int, int]] = []
    for number in range(draw(st.integers(1, 40))):
        handles = st.integers(0, FIRST_INPUT + inputs + number - 1)
        gate = (draw(st.sampled_from(["and", "xor"])), draw(handles), draw(handles))
        gates.append(gate)
        (build.and_ if gate[0] == "and" else build.xor)(gate[1], gate[2])
    return build.finish(FIRST_INPUT + inputs + len(gates) - 1), gates


def evaluate_gates(gates: list[tuple[str, int, int]], inputs: list[int]) -> int:
    """The same circuit in the order of writing, without layers or renumbering."""
    values = [0, 1, *inputs]
    for kind, left, right in gates:
        values.append(values[left] & values[right] if kind == "and" else values[left] ^ values[right])
    return values[-1]
