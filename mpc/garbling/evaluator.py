"""The evaluator: one label a wire, and from it, gate by gate, the label of the true output and no other.

W = H(A, i) ⊕ s_a·T_G ⊕ H(B, i') ⊕ s_b·(T_E ⊕ A)        s the colour bits of the active labels A, B
"""

from __future__ import annotations

import numpy as np

from mpc.circuits.circuit import FIRST_INPUT, Circuit, GateKind
from mpc.garbling.hashing import colour_masks, gate_permutation, sigma, tables_bytes
from mpc.primitives.aes import WORD, Blocks, Permutation, blocks_from_bytes


def evaluate(circuit: Circuit, session_id: bytes, tables: bytes, input_labels: Blocks) -> bytes:
    """The active label of the output wire, 16 bytes. `input_labels`: shape (circuit.inputs, 2).

    Wrong tables or labels give a label that fits nothing; there is no error to raise here.
    """
    if len(tables) != tables_bytes(circuit):
        raise ValueError("the tables do not fit the circuit; the message decoder checks this")
    labels = np.empty((circuit.wires, 2), dtype=WORD)
    labels[:FIRST_INPUT] = 0
    labels[FIRST_INPUT : FIRST_INPUT + circuit.inputs] = input_labels
    rows = blocks_from_bytes(tables)
    permutation = gate_permutation(session_id)
    half_gate = 0
    for step in circuit.steps:
        left = labels.take(step.left, axis=0)
        right = labels.take(step.right, axis=0)
        if step.kind is GateKind.XOR:
            np.bitwise_xor(left, right, out=labels[step.first_output : step.stop])
        else:
            count = 2 * len(left)
            labels[step.first_output : step.stop] = _evaluate_ands(
                permutation, left, right, half_gate, rows[half_gate : half_gate + count]
            )
            half_gate += count
    output: bytes = labels[circuit.output].tobytes()
    return output


def _evaluate_ands(permutation: Permutation, left: Blocks, right: Blocks, first_index: int, tables: Blocks) -> Blocks:
    gates = len(left)
    hashed = np.empty((2 * gates, 2), dtype=WORD)
    sigma(left, hashed[:gates])
    sigma(right, hashed[gates:])
    queries = hashed.copy()
    queries[:, 1] ^= np.arange(first_index, first_index + 2 * gates, dtype=WORD)
    hashed ^= permutation(queries)

    output = tables[:gates] & colour_masks(left)
    output ^= (tables[gates:] ^ left) & colour_masks(right)
    output ^= hashed[:gates]
    output ^= hashed[gates:]
    return output
