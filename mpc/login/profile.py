"""The matching profile that an enrolment is bound to, and the sizes that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from mpc.circuits.circuit import Circuit
from mpc.circuits.matchers import MaskedRule, PlainRule, Rotations, matcher
from mpc.parameters import MAX_CODE_BITS, MAX_TEMPLATES, MIN_CODE_BITS
from mpc.primitives import codec
from mpc.primitives.hashing import tagged_hash

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_RATIO_SHIFT = 12
_MAX_VERSION = 65_535
_MAX_ROTATION = 8
_OPTIONAL = ("version", "measured", "columns", "rotation", "thresholds")
"""Left out of the map where they have their default, so that the digests of profiles without them stay."""
_RULE = ("threshold", "min_valid", "ratio_numerator", "thresholds")


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes and decision rule. Raises ValueError for values that make no sense.

    Without masks: accept iff distance ≤ `threshold` (bits), 0 < threshold < code_bits/2.
    With masks: accept iff valid ≥ `min_valid` (at least ¾ of the bits) and
    distance · 2^ratio_shift ≤ ratio_numerator · valid; `threshold` is 0.
    With several templates one match is enough, and an attempt costs as many tries.

    Templates may be added to an enrolment where there are `thresholds`: the threshold (with masks, the ratio's
    numerator) for an enrolment of 1, 2, … templates, for as many as there may be. Each is smaller than the one before,
    so that m chances together match a stranger no more often than one did; which they are is for whoever makes the
    profile to measure (docs/encoders.md). `templates` says how many an enrolment begins with, and the profile of one
    with another number is `with_templates`. Empty: the number never changes.

    With `rotation` k > 0 (masked codes only) the probe may be turned by up to k of its `columns` either way, and an
    attempt is 2k + 1 comparisons with each template.

    `version` counts the releases of a published profile, 0 for an operator's own. `measured` is the digest of the
    `Measurement` published with it, or empty.
    """

    name: str
    code_bits: int
    threshold: int
    encoder_id: str
    templates: int = 1
    masked: bool = False
    min_valid: int = 0
    ratio_numerator: int = 0
    ratio_shift: int = 0
    version: int = 0
    measured: str = ""
    columns: int = 0
    rotation: int = 0
    thresholds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n = self.code_bits
        if not _NAME.fullmatch(self.name):
            raise ValueError("profile name: 1 to 40 of a–z, 0–9, dot and dash")
        if not MIN_CODE_BITS <= n <= MAX_CODE_BITS or n & (n - 1):
            raise ValueError(f"code_bits: a power of two from {MIN_CODE_BITS} to {MAX_CODE_BITS}")
        if not 1 <= self.templates <= MAX_TEMPLATES:
            raise ValueError(f"templates: 1 to {MAX_TEMPLATES}")
        if not 0 < len(self.encoder_id.encode("utf-8")) <= 80:
            raise ValueError("encoder_id: 1 to 80 bytes of text")
        if self.masked:
            if self.threshold:
                raise ValueError("threshold: must be 0 with masks; the ratio decides")
            if not 3 * n <= 4 * self.min_valid <= 4 * n:
                raise ValueError("min_valid: from three quarters of the code's bits to all of them")
            if not 1 <= self.ratio_shift <= _MAX_RATIO_SHIFT:
                raise ValueError(f"ratio_shift: 1 to {_MAX_RATIO_SHIFT}")
            if not 0 < 2 * self.ratio_numerator < 1 << self.ratio_shift:
                raise ValueError("ratio_numerator: the ratio must lie between 0 and one half")
        else:
            if not 0 < 2 * self.threshold < n:
                raise ValueError("threshold: more than 0 and less than half of the code's bits")
            if self.min_valid or self.ratio_numerator or self.ratio_shift:
                raise ValueError("min_valid, ratio_numerator, ratio_shift: only with masks")
        if self.rotation or self.columns:
            if not self.masked:
                raise ValueError("rotation, columns: only with masks")
            if not 1 <= self.rotation <= _MAX_ROTATION:
                raise ValueError(f"rotation: 1 to {_MAX_ROTATION} columns either way")
            if n % max(self.columns, 1) or not 2 * self.rotation < self.columns:
                raise ValueError("columns: a divisor of code_bits, more than twice the rotation")
        self._check_thresholds()
        if not 0 <= self.version <= _MAX_VERSION:
            raise ValueError(f"version: 0 to {_MAX_VERSION}")
        if self.measured and not _DIGEST.fullmatch(self.measured):
            raise ValueError("measured: empty, or 64 lower-case hexadecimal digits")

    def _check_thresholds(self) -> None:
        if not self.thresholds:
            return
        if not self.templates <= len(self.thresholds) <= MAX_TEMPLATES:
            raise ValueError(f"thresholds: one for each number of templates there may be, {MAX_TEMPLATES} at most")
        if self.thresholds[self.templates - 1] != self._rule_number:
            raise ValueError("thresholds: the one for this number of templates must be that of the rule")
        if self.thresholds[-1] <= 0 or any(a <= b for a, b in pairwise(self.thresholds)):
            raise ValueError("thresholds: each must be above 0 and smaller than the one before")
        unit = 1 << self.ratio_shift if self.masked else self.code_bits
        if 2 * self.thresholds[0] >= unit:
            raise ValueError("thresholds: each must be less than half, as the rule's own")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Profile:
        """From JSON-like values; unknown or mistyped entries are a ValueError."""
        known = {field.name: field.type for field in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"unknown entries: {', '.join(unknown)[:80]}")
        for name, value in values.items():
            if name == "thresholds":
                if type(value) is not list or any(type(each) is not int for each in value):
                    raise ValueError("thresholds: must be a list of int")
                continue
            wanted = {"str": str, "int": int, "bool": bool}[str(known[name])]
            if type(value) is not wanted:
                raise ValueError(f"{name}: must be {known[name]}")
        if missing := {"name", "code_bits", "threshold", "encoder_id"} - set(values):
            raise ValueError(f"missing entries: {', '.join(sorted(missing))}")
        return cls(**{**values, "thresholds": tuple(values.get("thresholds", ()))})

    def as_dict(self) -> dict[str, Any]:
        """The map that is sent, stored and digested; optional fields are left out at their default."""
        defaults = {field.name: field.default for field in fields(self) if field.name in _OPTIONAL}
        values = {**asdict(self), "thresholds": list(self.thresholds)}
        return {
            name: value
            for name, value in values.items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }

    def with_templates(self, count: int) -> Profile:
        """The profile of an enrolment under this one that has `count` templates: another rule, circuit and digest.

        Raises ValueError for a number that there is no threshold for.
        """
        if count == self.templates:
            return self
        if count not in self.template_counts:
            raise ValueError(f"profile {self.name} has no threshold for {count} templates")
        number = self.thresholds[count - 1]
        if self.masked:
            return replace(self, templates=count, ratio_numerator=number)
        return replace(self, templates=count, threshold=number)

    def tightens(self, other: Profile) -> bool:
        """Whether this profile differs from `other`, and only by accepting fewer probes, or allowing fewer templates.

        Where `other` has thresholds for several templates, none of this one's may be larger.
        """
        others = (field.name for field in fields(self) if field.name not in _RULE)
        return (
            self != other
            and all(getattr(self, name) == getattr(other, name) for name in others)
            and self.threshold <= other.threshold
            and self.min_valid >= other.min_valid
            and self.ratio_numerator <= other.ratio_numerator
            and len(self.thresholds) <= len(other.thresholds)
            and all(own <= limit for own, limit in zip(self.thresholds, other.thresholds, strict=False))
        )

    @property
    def template_counts(self) -> range:
        """How many templates an enrolment may have."""
        first, last = (1, len(self.thresholds)) if self.thresholds else (self.templates, self.templates)
        return range(first, last + 1)

    @property
    def max_templates(self) -> int:
        """The most that an enrolment may have."""
        return self.template_counts[-1]

    @property
    def _rule_number(self) -> int:
        return self.ratio_numerator if self.masked else self.threshold

    @property
    def circuit(self) -> Circuit:
        """The matching circuit; built once and kept."""
        rule: PlainRule | MaskedRule = PlainRule(self.threshold)
        if self.masked:
            rule = MaskedRule(self.min_valid, self.ratio_numerator, self.ratio_shift)
        rotations = Rotations(self.columns, self.rotation) if self.rotation else None
        return matcher(self.code_bits, self.templates, rule, rotations)

    @property
    def digest(self) -> bytes:
        """32 bytes over every field and the circuit's gate order."""
        return _digest(self)

    @property
    def input_bits(self) -> int:
        """ℓ, the device's input bits of one login.

        Codes, then template masks, then with rotations the probe's own code, then the probe's mask.
        """
        return self.template_bits * (2 if self.masked else 1) + self.code_bits * (self.masked + (self.rotation > 0))

    @property
    def template_bits(self) -> int:
        """All template codes together."""
        return self.code_bits * self.templates

    @property
    def probe_codes(self) -> int:
        """How many codes a probe has: one a template, or with rotations one for all."""
        return 1 if self.rotation else self.templates

    @property
    def template_bytes(self) -> int:
        """Size of a share of all template codes, packed."""
        return self.code_bits * self.templates // 8

    @property
    def mask_bytes(self) -> int:
        """Size of a share of all template masks, packed; 0 without masks."""
        return self.template_bytes if self.masked else 0

    def accepts(self, differences: int, valid: int) -> bool:
        """The decision in the clear, for enrolment on the device and as a reference: one template."""
        if not self.masked:
            return differences <= self.threshold
        return valid >= self.min_valid and differences << self.ratio_shift <= self.ratio_numerator * valid


@lru_cache(maxsize=64)
def _digest(profile: Profile) -> bytes:
    return tagged_hash("tandem profile v1", codec.encode(profile.as_dict()), profile.circuit.digest)
