"""Numbers as lists of wires, lowest bit first: counting, adding, multiplying by a wired constant, comparing."""

from __future__ import annotations

from collections.abc import Sequence

from mpc.circuits.builder import CircuitBuilder

Number = list[int]
Planes = dict[int, list[int]]
"""Wires by weight: planes[w] holds wires that count 2^w each."""


def sum_of_planes(build: CircuitBuilder, planes: Planes, width: int) -> Number:
    """The `width` low bits of the weighted sum.

    Carry-save: at each weight, three wires become one sum and one carry,
        sum = x ⊕ y ⊕ z,    carry = (x ⊕ z)·(y ⊕ z) ⊕ z
    one AND each. Sums are free, so all ANDs of one weight stand at one AND depth. Rounds of triples, rather than
    a chain, keep the XOR depth logarithmic. Where two wires are left, a half adder: carry = x·y.
    """
    number: Number = []
    carried: list[int] = []
    for weight in range(width):
        level = list(planes.get(weight, ())) + carried
        carried = []
        last = weight == width - 1
        while len(level) > 2:
            summed: list[int] = []
            for at in range(0, len(level) - 2, 3):
                x, y, z = level[at : at + 3]
                xz = build.xor(x, z)
                summed.append(build.xor(xz, y))
                if not last:
                    carried.append(build.xor(build.and_(xz, build.xor(y, z)), z))
            level = summed + level[len(level) - len(level) % 3 :]
        if len(level) == 2:
            if not last:
                carried.append(build.and_(level[0], level[1]))
            level = [build.xor(level[0], level[1])]
        number.append(level[0] if level else build.constant(0))
    return number


def count_ones(build: CircuitBuilder, bits: Sequence[int]) -> Number:
    """How many of the bits are 1."""
    return sum_of_planes(build, {0: list(bits)}, len(bits).bit_length())


def count_exceeds(build: CircuitBuilder, bits: Sequence[int], limit: int) -> int:
    """1 iff more than `limit` of the bits are 1; 0 ≤ limit < len(bits).

    With m = ceil(log2 n) and the public K = 2^m − 1 − limit:  count > limit  iff  count + K ≥ 2^m, and since
    count ≤ 2^m and K < 2^m that is bit m of the sum. K enters as constant wires, so the number and order of the
    gates (n − 1 ANDs where n is a power of two) say nothing about the limit.
    """
    top = (len(bits) - 1).bit_length()
    added = (1 << top) - 1 - limit
    planes: Planes = {0: [*bits, build.constant(added & 1)]}
    for weight in range(1, top):
        planes[weight] = [build.constant(added >> weight & 1)]
    return sum_of_planes(build, planes, top + 1)[top]


def times_constant(build: CircuitBuilder, number: Number, factor: int, factor_bits: int) -> Number:
    """number · factor, the factor as `factor_bits` constant wires."""
    planes: Planes = {}
    for shift in range(factor_bits):
        wire = build.constant(factor >> shift & 1)
        for weight, bit in enumerate(number):
            planes.setdefault(weight + shift, []).append(build.and_(bit, wire))
    return sum_of_planes(build, planes, len(number) + factor_bits)


def constant_number(build: CircuitBuilder, value: int, width: int) -> Number:
    return [build.constant(value >> weight & 1) for weight in range(width)]


def greater_than(build: CircuitBuilder, left: Number, right: Number) -> int:
    """1 iff left > right, from the lowest bit up.

        g' = majority(x, ¬y, g) = (x ⊕ g)·(¬y ⊕ g) ⊕ g

    is 1 for x = 1, y = 0;  0 for x = 0, y = 1;  g for x = y. One AND a bit.
    """
    width = max(len(left), len(right))
    greater = build.constant(0)
    for weight in range(width):
        x = left[weight] if weight < len(left) else build.constant(0)
        y = right[weight] if weight < len(right) else build.constant(0)
        differs_x = build.xor(x, greater)
        differs_y = build.xor(build.not_(y), greater)
        greater = build.xor(build.and_(differs_x, differs_y), greater)
    return greater
