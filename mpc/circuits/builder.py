"""Writes circuits gate by gate and lays them out in steps.

A gate's place is (AND depth, XOR depth since the last AND): all AND gates of one depth form one step, then the
XOR gates that depend on them, one step for each depth. Fewer steps mean fewer array operations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpc.circuits.circuit import CONSTANT_ONE, CONSTANT_ZERO, FIRST_INPUT, Circuit, GateKind, Step


class CircuitBuilder:
    """Collects gates; `finish` numbers the wires for good. Wire handles are valid in their builder only."""

    def __init__(self, inputs: int) -> None:
        self._inputs = inputs
        self._first_gate = FIRST_INPUT + inputs
        self._gates: list[tuple[GateKind, int, int]] = []
        self._places: list[tuple[int, int]] = [(0, 0)] * self._first_gate

    @property
    def inputs(self) -> range:
        """Handles of the input wires."""
        return range(FIRST_INPUT, self._first_gate)

    @staticmethod
    def constant(bit: int) -> int:
        """A constant as a wire: gates on it are garbled like any other, so its value does not shape the circuit."""
        return CONSTANT_ONE if bit else CONSTANT_ZERO

    def xor(self, left: int, right: int) -> int:
        return self._add(GateKind.XOR, left, right)

    def and_(self, left: int, right: int) -> int:
        return self._add(GateKind.AND, left, right)

    def not_(self, wire: int) -> int:
        return self.xor(wire, CONSTANT_ONE)

    def all_of(self, wires: Sequence[int]) -> int:
        """AND of one or more wires, as a balanced tree."""
        level = list(wires)
        while len(level) > 1:
            odd = level[-1:] if len(level) % 2 else []
            level = [self.and_(a, b) for a, b in zip(level[::2], level[1::2], strict=False)] + odd
        return level[0]

    def finish(self, output: int) -> Circuit:
        """Lay the gates out: by AND depth, ANDs first, then XORs by XOR depth; within a step in order of writing."""
        order: dict[tuple[int, int, int], list[int]] = {}
        for number, (kind, _, _) in enumerate(self._gates):
            ands, xors = self._places[self._first_gate + number]
            order.setdefault((ands, 0 if kind is GateKind.AND else 1, xors), []).append(number)
        renumbered = np.empty(self._first_gate + len(self._gates), dtype=np.intp)
        renumbered[: self._first_gate] = np.arange(self._first_gate)
        steps: list[Step] = []
        next_wire = self._first_gate
        for place in sorted(order):
            gates = order[place]
            for offset, number in enumerate(gates):
                renumbered[self._first_gate + number] = next_wire + offset
            left = renumbered[[self._gates[number][1] for number in gates]]
            right = renumbered[[self._gates[number][2] for number in gates]]
            steps.append(Step(self._gates[gates[0]][0], left, right, next_wire))
            next_wire += len(gates)
        return Circuit.build(self._inputs, tuple(steps), int(renumbered[output]))

    def _add(self, kind: GateKind, left: int, right: int) -> int:
        (left_ands, left_xors), (right_ands, right_xors) = self._places[left], self._places[right]
        ands = max(left_ands, right_ands)
        if kind is GateKind.AND:
            place = (ands + 1, 0)
        else:
            deepest = max(left_xors if left_ands == ands else 0, right_xors if right_ands == ands else 0)
            place = (ands, deepest + 1)
        self._gates.append((kind, left, right))
        self._places.append(place)
        return len(self._places) - 1
