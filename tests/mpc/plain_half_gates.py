"""Half-gates garbling again, in plain integers from the text of the design: what a port to another language writes.

Nothing is shared with the implementation but the circuit, so agreement pins byte order, gate indices and tables.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from mpc.circuits.circuit import FIRST_INPUT, Circuit, GateKind

_LOW = 2**64 - 1


def _key(label: bytes, session_id: bytes) -> bytes:
    framed = bytes([len(label)]) + label + len(session_id).to_bytes(4, "big") + session_id
    return hashlib.sha256(framed).digest()[:16]


class GateHash:
    """H(x, i) = π(σ(x) ⊕ i) ⊕ σ(x); labels are 128-bit integers, little-endian, so L is the low half."""

    def __init__(self, session_id: bytes) -> None:
        self._encrypt = Cipher(algorithms.AES128(_key(b"tandem garble v1", session_id)), modes.ECB()).encryptor()

    def __call__(self, label: int, index: int) -> int:
        low, high = label & _LOW, label >> 64
        mixed = (low ^ high) | low << 64
        cipher = self._encrypt.update((mixed ^ index << 64).to_bytes(16, "little"))
        return int.from_bytes(cipher, "little") ^ mixed


def whitening(session_id: bytes, inputs: int) -> list[int]:
    """AES-128-CTR from counter 0, one block an input."""
    encrypt = Cipher(algorithms.AES128(_key(b"tandem white v1", session_id)), modes.ECB()).encryptor()
    return [int.from_bytes(encrypt.update(number.to_bytes(16, "big")), "little") for number in range(inputs)]


def garble(circuit: Circuit, session_id: bytes, delta: int, zeros: list[int]) -> tuple[bytes, int]:
    """(tables, zero-label of the output)."""
    gate_hash = GateHash(session_id)
    labels = [0, delta, *zeros]
    assert len(labels) == FIRST_INPUT + circuit.inputs
    tables: list[int] = []
    start = 0
    for step in circuit.steps:
        pairs = [(labels[a], labels[b]) for a, b in zip(step.left, step.right, strict=True)]
        if step.kind is GateKind.XOR:
            labels += [a ^ b for a, b in pairs]
            continue
        count = len(pairs)
        generators, evaluators = [], []
        for gate, (a, b) in enumerate(pairs):
            i, i_prime = start + gate, start + count + gate
            t_g = gate_hash(a, i) ^ gate_hash(a ^ delta, i) ^ (b & 1) * delta
            t_e = gate_hash(b, i_prime) ^ gate_hash(b ^ delta, i_prime) ^ a
            generator = gate_hash(a, i) ^ (a & 1) * t_g
            evaluator = gate_hash(b, i_prime) ^ (b & 1) * (t_e ^ a)
            labels.append(generator ^ evaluator)
            generators.append(t_g)
            evaluators.append(t_e)
        tables += generators + evaluators
        start += 2 * count
    return b"".join(row.to_bytes(16, "little") for row in tables), labels[circuit.output]


def evaluate(circuit: Circuit, session_id: bytes, tables: bytes, active: list[int]) -> int:
    """The active label of the output."""
    gate_hash = GateHash(session_id)
    rows = [int.from_bytes(tables[at : at + 16], "little") for at in range(0, len(tables), 16)]
    labels = [0, 0, *active]
    start = 0
    for step in circuit.steps:
        pairs = [(labels[a], labels[b]) for a, b in zip(step.left, step.right, strict=True)]
        if step.kind is GateKind.XOR:
            labels += [a ^ b for a, b in pairs]
            continue
        count = len(pairs)
        for gate, (a, b) in enumerate(pairs):
            generator = gate_hash(a, start + gate) ^ (a & 1) * rows[start + gate]
            evaluator = gate_hash(b, start + count + gate) ^ (b & 1) * (rows[start + count + gate] ^ a)
            labels.append(generator ^ evaluator)
        start += 2 * count
    return labels[circuit.output]
