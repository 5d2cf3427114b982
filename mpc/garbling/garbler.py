"""The garbler: half-gates with free XOR (Zahur, Rosulek, Evans, Eurocrypt 2015).

For an AND gate with operand zero-labels A, B, colour bits p_a, p_b and half-gate indices i, i':

    T_G = H(A, i) ⊕ H(A⊕Δ, i) ⊕ p_b·Δ            G = H(A, i) ⊕ p_a·T_G
    T_E = H(B, i') ⊕ H(B⊕Δ, i') ⊕ A              E = H(B, i') ⊕ p_b·(T_E ⊕ A)
    output zero-label = G ⊕ E
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mpc.circuits.circuit import CONSTANT_ONE, FIRST_INPUT, Circuit, GateKind
from mpc.garbling.hashing import colour_masks, gate_permutation, sigma, tables_bytes
from mpc.primitives.aes import WORD, Blocks, Permutation, blocks_from_bytes
from mpc.primitives.secrecy import NeverPickled


@dataclass(frozen=True, slots=True)
class Garbled(NeverPickled):
    """Tables for the evaluator, and the two labels of the output wire, which stay with the garbler."""

    tables: bytes = field(repr=False)
    reject_label: bytes = field(repr=False)
    accept_label: bytes = field(repr=False)


def garble(circuit: Circuit, session_id: bytes, delta: bytes, input_zero_labels: Blocks) -> Garbled:
    """Garble `circuit` under offset `delta` (16 bytes, lowest bit 1).

    `input_zero_labels`: shape (circuit.inputs, 2). The zero-labels of the constant wires are 0 and Δ: the
    evaluator holds 0 for both.
    """
    offset = blocks_from_bytes(delta)
    labels = np.empty((circuit.wires, 2), dtype=WORD)
    labels[0] = 0
    labels[CONSTANT_ONE] = offset[0]
    labels[FIRST_INPUT : FIRST_INPUT + circuit.inputs] = input_zero_labels
    tables = np.empty((2 * circuit.ands, 2), dtype=WORD)
    permutation = gate_permutation(session_id)
    half_gate = 0
    for step in circuit.steps:
        left = labels.take(step.left, axis=0)
        right = labels.take(step.right, axis=0)
        if step.kind is GateKind.XOR:
            np.bitwise_xor(left, right, out=labels[step.first_output : step.stop])
        else:
            count = 2 * len(left)
            labels[step.first_output : step.stop] = _garble_ands(
                permutation, offset, left, right, half_gate, tables[half_gate : half_gate + count]
            )
            half_gate += count
    if tables.nbytes != tables_bytes(circuit):
        raise AssertionError("the circuit's gate count does not match its steps")
    reject = labels[circuit.output]
    return Garbled(tables.tobytes(), reject.tobytes(), (reject ^ offset[0]).tobytes())


def _garble_ands(
    permutation: Permutation, offset: Blocks, left: Blocks, right: Blocks, first_index: int, tables: Blocks
) -> Blocks:
    gates = len(left)
    # rows: H(A), H(B) | H(A⊕Δ), H(B⊕Δ); σ is linear, so σ(x⊕Δ) = σ(x) ⊕ σ(Δ)
    hashed = np.empty((4 * gates, 2), dtype=WORD)
    sigma(left, hashed[:gates])
    sigma(right, hashed[gates : 2 * gates])
    offset_sigma = np.empty((1, 2), dtype=WORD)
    sigma(offset, offset_sigma)
    np.bitwise_xor(hashed[: 2 * gates], offset_sigma, out=hashed[2 * gates :])
    queries = hashed.copy()
    indices = np.arange(first_index, first_index + 2 * gates, dtype=WORD)
    queries[: 2 * gates, 1] ^= indices
    queries[2 * gates :, 1] ^= indices
    hashed ^= permutation(queries)
    zero, one = hashed[: 2 * gates], hashed[2 * gates :]

    left_colour, right_colour = colour_masks(left), colour_masks(right)
    np.bitwise_xor(zero, one, out=tables)
    generator, evaluator = tables[:gates], tables[gates:]
    generator ^= right_colour & offset
    output = generator & left_colour
    output ^= evaluator & right_colour
    output ^= zero[:gates]
    output ^= zero[gates:]
    # T_E ⊕ A enters the output, T_E the table: so E uses the sum without A, and A is added to the table last.
    evaluator ^= left
    return output
