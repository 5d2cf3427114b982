"""The circuits that decide a login: Hamming distance, plain and masked, for one or several templates.

Device input wires, in this order, for K templates of n bits:

    plain:   x^1 … x^K                      x^k = t^k ⊕ b     (n wires each)
    masked:  x^1 … x^K, μ^1 … μ^K, m        μ^k the template's mask, m the probe's (n wires each)

    masked, rotated:  t^1 … t^K, μ^1 … μ^K, b, m    the template itself, the probe's code and mask (n wires each)

The server's shares of t and μ are folded into the zero-labels of these wires, so they cost no gate. With rotations the
probe stands on wires of its own: t ⊕ b for each rotation is then a free XOR of wires that were transferred once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mpc.circuits.arithmetic import (
    constant_number,
    count_exceeds,
    count_ones,
    greater_than,
    times_constant,
)
from mpc.circuits.builder import CircuitBuilder
from mpc.circuits.circuit import Circuit


@dataclass(frozen=True, slots=True)
class PlainRule:
    """Accept iff distance ≤ threshold."""

    threshold: int


@dataclass(frozen=True, slots=True)
class MaskedRule:
    """Accept iff valid ≥ min_valid and distance · 2^ratio_shift ≤ ratio_numerator · valid."""

    min_valid: int
    ratio_numerator: int
    ratio_shift: int


@dataclass(frozen=True, slots=True)
class Rotations:
    """The probe may be turned by up to `shift` columns either way.

    A code is laid out column by column: bit i belongs to column i div (n / columns). Turned by s, column c of the probe
    is compared with column c + s of the template, modulo `columns`.
    """

    columns: int
    shift: int


@lru_cache(maxsize=64)
def matcher(
    code_bits: int, templates: int, rule: PlainRule | MaskedRule, rotations: Rotations | None = None
) -> Circuit:
    """Output 1 iff at least one template accepts, in one of the rotations where there are any (masked codes only)."""
    if rotations is not None:
        assert isinstance(rule, MaskedRule)
        return _rotated_matcher(code_bits, templates, rule, rotations)
    masked = isinstance(rule, MaskedRule)
    build = CircuitBuilder(code_bits * (2 * templates + 1 if masked else templates))
    wires = list(build.inputs)
    blocks = [wires[at : at + code_bits] for at in range(0, len(wires), code_bits)]
    rejects: list[int] = []
    for index in range(templates):
        if isinstance(rule, MaskedRule):
            rejects.append(_masked_reject(build, blocks[index], blocks[templates + index], blocks[-1], rule))
        else:
            rejects.append(count_exceeds(build, blocks[index], rule.threshold))
    # accept = OR of accepts = NOT (AND of rejects)
    return build.finish(build.not_(build.all_of(rejects)))


def _rotated_matcher(code_bits: int, templates: int, rule: MaskedRule, rotations: Rotations) -> Circuit:
    build = CircuitBuilder(code_bits * (2 * templates + 2))
    wires = list(build.inputs)
    blocks = [wires[at : at + code_bits] for at in range(0, len(wires), code_bits)]
    codes, masks, (probe, probe_mask) = blocks[:templates], blocks[templates : 2 * templates], blocks[2 * templates :]
    column = code_bits // rotations.columns
    rejects: list[int] = []
    for code, mask in zip(codes, masks, strict=True):
        for shift in range(-rotations.shift, rotations.shift + 1):
            by = -shift * column % code_bits
            turned, turned_mask = probe[by:] + probe[:by], probe_mask[by:] + probe_mask[:by]
            differences = [build.xor(a, b) for a, b in zip(code, turned, strict=True)]
            rejects.append(_masked_reject(build, differences, mask, turned_mask, rule))
    return build.finish(build.not_(build.all_of(rejects)))


def _masked_reject(
    build: CircuitBuilder,
    differences: Sequence[int],
    template_mask: Sequence[int],
    probe_mask: Sequence[int],
    rule: MaskedRule,
) -> int:
    usable = [build.and_(a, b) for a, b in zip(template_mask, probe_mask, strict=True)]
    valid = count_ones(build, usable)
    distance = count_ones(build, [build.and_(d, v) for d, v in zip(differences, usable, strict=True)])
    allowed = times_constant(build, valid, rule.ratio_numerator, rule.ratio_shift)
    scaled = [build.constant(0)] * rule.ratio_shift + distance
    too_far = greater_than(build, scaled, allowed)
    too_few = greater_than(build, constant_number(build, rule.min_valid, len(valid)), valid)
    # OR by De Morgan
    return build.not_(build.and_(build.not_(too_far), build.not_(too_few)))
