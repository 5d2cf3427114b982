"""What was measured of a profile: error rates as counts, so that anybody can compute rates and bounds again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mpc.primitives import codec
from mpc.primitives.hashing import tagged_hash

_TEXT_BYTES_MAX = 300
_DOUBT = 0.05
_BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Measurement:
    """Counts at the profile's own rule. Its digest is a field of the profile, hence bound into each enrolment.

    data: what was measured on, in words. simulated: whether no real person was among it. subjects: people.
    crafted_tries, crafted_accepts: comparisons with probes that somebody chose, among them the best of many.
    Raises ValueError for negative counts, more errors than tries, or text that is empty or above 300 bytes.
    """

    data: str
    simulated: bool
    subjects: int
    genuine_tries: int
    false_rejects: int
    impostor_tries: int
    false_accepts: int
    failures_to_capture: int
    crafted_tries: int
    crafted_accepts: int

    def __post_init__(self) -> None:
        if not 0 < len(self.data.encode("utf-8")) <= _TEXT_BYTES_MAX:
            raise ValueError(f"data: 1 to {_TEXT_BYTES_MAX} bytes of text")
        counts = {name: value for name, value in asdict(self).items() if name not in ("data", "simulated")}
        if any(type(value) is not int or not 0 <= value < 1 << 48 for value in counts.values()):
            raise ValueError("counts: whole numbers from 0")
        for errors, tries in (
            (self.false_rejects, self.genuine_tries),
            (self.false_accepts, self.impostor_tries),
            (self.crafted_accepts, self.crafted_tries),
        ):
            if errors > tries:
                raise ValueError("more errors than tries")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Measurement:
        """From JSON-like values. Raises ValueError for missing, unknown or mistyped entries."""
        if set(values) != {field.name for field in fields(cls)}:
            raise ValueError("a measurement has other entries")
        if type(values["data"]) is not str or type(values["simulated"]) is not bool:
            raise ValueError("data: text; simulated: true or false")
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def false_reject_bound(self) -> float:
        """Below this with 95 % confidence, failures to capture counted as rejects; see `upper_bound`."""
        failed = self.failures_to_capture
        return upper_bound(self.false_rejects + failed, self.genuine_tries + failed)

    @property
    def false_accept_bound(self) -> float:
        """Below this with 95 % confidence; see `upper_bound`."""
        return upper_bound(self.false_accepts, self.impostor_tries)

    @property
    def digest(self) -> str:
        """64 hexadecimal digits, as a profile's `measured` has them."""
        return tagged_hash("tandem measurement v1", codec.encode(self.as_dict())).hex()


def upper_bound(errors: int, tries: int) -> float:
    """The 95 % upper confidence bound of a rate (Clopper and Pearson, one-sided): about 3/tries for no error.

    It takes the tries for independent. Those of one person are not, so the true bound is higher.
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _at_most(errors, tries, middle) > _DOUBT:
            low = middle
        else:
            high = middle
    return high


def _at_most(errors: int, tries: int, rate: float) -> float:
    """The probability of at most so many errors in independent tries."""
    if errors >= tries:
        return 1.0
    each = (
        math.lgamma(tries + 1)
        - math.lgamma(count + 1)
        - math.lgamma(tries - count + 1)
        + count * math.log(rate)
        + (tries - count) * math.log1p(-rate)
        for count in range(errors + 1)
    )
    return math.fsum(map(math.exp, each))
