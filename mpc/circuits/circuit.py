"""Boolean circuits of XOR and AND gates as immutable steps of index arrays, and their clear evaluation.

Wires are numbered: 0 is the constant 0, 1 is the constant 1, then the inputs, then the gate outputs in step order.
A step holds gates of one kind whose operands all come from earlier steps, so it is one array operation.
NOT is XOR with wire 1. Constants that must not shape the circuit (thresholds) are wired, not folded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mpc.primitives.bit_matrix import Bits
from mpc.primitives.hashing import tagged_hash

CONSTANT_ZERO = 0
CONSTANT_ONE = 1
FIRST_INPUT = 2

WireIndices = NDArray[np.intp]


class GateKind(IntEnum):
    XOR = 0
    AND = 1


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Gates of one kind: output `first_output + g` is left[g] ∘ right[g]."""

    kind: GateKind
    left: WireIndices = field(repr=False)
    right: WireIndices = field(repr=False)
    first_output: int

    @property
    def stop(self) -> int:
        return self.first_output + len(self.left)


@dataclass(frozen=True, slots=True, eq=False)
class Circuit:
    """`inputs` input wires, steps in order, one output wire. `digest` pins the gate order."""

    inputs: int
    steps: tuple[Step, ...] = field(repr=False)
    output: int
    wires: int
    ands: int
    digest: bytes

    @classmethod
    def build(cls, inputs: int, steps: tuple[Step, ...], output: int) -> Circuit:
        """Derive the sizes and the digest: SHA-256 over every step's kind, count and operands (u32 big-endian)."""
        parts = [inputs.to_bytes(4, "big"), output.to_bytes(4, "big")]
        for step in steps:
            parts.append(bytes([step.kind]))
            parts.append(step.left.astype(">u4").tobytes())
            parts.append(step.right.astype(">u4").tobytes())
        return cls(
            inputs=inputs,
            steps=steps,
            output=output,
            wires=steps[-1].stop if steps else FIRST_INPUT + inputs,
            ands=sum(len(step.left) for step in steps if step.kind is GateKind.AND),
            digest=tagged_hash("tandem circuit v1", *parts),
        )

    def evaluate(self, inputs: Bits) -> int:
        """The output bit for clear inputs. The oracle of the tests; the protocol never calls it."""
        values = np.zeros(self.wires, dtype=np.uint8)
        values[CONSTANT_ONE] = 1
        values[FIRST_INPUT : FIRST_INPUT + self.inputs] = inputs
        for step in self.steps:
            left, right = values[step.left], values[step.right]
            values[step.first_output : step.stop] = left ^ right if step.kind is GateKind.XOR else left & right
        return int(values[self.output])
