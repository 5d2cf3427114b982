"""The gate hash and the layout of half-gate tables, shared by garbler and evaluator.

    H(x, i) = π(σ(x) ⊕ i) ⊕ σ(x),    σ(L ‖ R) = (L ⊕ R) ‖ L

π is AES-128 under a key hashed from the session id, i the running half-gate index as u64 little-endian in bytes
8–15 (Guo, Katz, Wang, Yu, S&P 2020). L is bytes 0–7, R bytes 8–15. The colour bit is bit 0 of byte 0.

Within an AND step of m gates that starts at index s: generator halves take s … s+m−1, evaluator halves
s+m … s+2m−1, and the tables are all generator halves, then all evaluator halves, 16 bytes each.
"""

from __future__ import annotations

import numpy as np

from mpc.circuits.circuit import Circuit
from mpc.primitives.aes import WORD, Blocks, Permutation, blocks_from_bytes, ctr_stream
from mpc.primitives.hashing import tagged_hash

LABEL_BYTES = 16


def gate_permutation(session_id: bytes) -> Permutation:
    """π for one session: no (key, index) pair is ever used twice."""
    return Permutation(tagged_hash("tandem garble v1", session_id)[:16])


def input_whitening(session_id: bytes, inputs: int) -> Blocks:
    """F: one public block an input wire, known only after the device has fixed its U.

    Labels that the evaluator could choose would let it force two hash calls to collide and read Δ off the table.
    """
    key = tagged_hash("tandem white v1", session_id)[:16]
    return blocks_from_bytes(ctr_stream(key, inputs * LABEL_BYTES))


def tables_bytes(circuit: Circuit) -> int:
    """Size of all tables: two rows an AND gate."""
    return circuit.ands * 2 * LABEL_BYTES


def sigma(blocks: Blocks, out: Blocks) -> None:
    """σ of every row into `out` (linear, an orthomorphism)."""
    np.bitwise_xor(blocks[:, 0], blocks[:, 1], out=out[:, 0])
    out[:, 1] = blocks[:, 0]


def colour_masks(labels: Blocks) -> Blocks:
    """All-ones rows where the colour bit is 1: shape (count, 1)."""
    masks: Blocks = np.negative(labels[:, :1] & WORD.type(1))
    return masks
