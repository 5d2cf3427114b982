"""What is measured: the combinations, and one row of results each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

SERVER_BUDGET_POWMODS = 3.0
"""Server CPU of a whole login may cost this many exponentiations (code of 2048 bits, modulus of 2048 bits)."""
MPC_BUDGET_POWMODS = 1.3
WALL_BUDGET_POWMODS = 10.0


@dataclass(frozen=True, slots=True)
class Combination:
    """A code length and a modulus length, in bits; `published` names a published profile instead of sim-n."""

    code_bits: int
    modulus_bits: int
    published: str = ""

    @property
    def profile(self) -> str:
        """The profile's name on a server with default settings."""
        return self.published or f"sim-{self.code_bits}"

    def __str__(self) -> str:
        return f"{self.published or self.code_bits}/{self.modulus_bits}"


ALL = (
    *(Combination(n, bits) for n in (512, 2048, 4096) for bits in (2048, 3072)),
    *(Combination(int(name[-4:]), 2048, name) for name in ("face-2048", "iris-2048", "iris-4096")),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One combination's figures. Times in milliseconds a login; ratios in bare exponentiations (powmod_sec).

    `docs/benchmarks.md` says for each how it is measured.
    """

    profile: str
    code_bits: int
    modulus_bits: int
    logins: int
    no_matches: int
    powmod_sec_ms: float
    powmod_sec_median_ms: float
    server_cpu_ms: float
    server_login_cpu_ms: float
    server_confirmation_cpu_ms: float
    server_mpc_ms: float
    device_cpu_ms: float
    device_login_cpu_ms: float
    device_confirmation_cpu_ms: float
    wall_ms: float
    wall_p95_ms: float
    plain_rsa_wall_ms: float
    plain_rsa_server_cpu_ms: float
    server_ratio: float
    server_mpc_ratio: float
    wall_powmods: float
    wall_ratio: float
    bytes_up: int
    bytes_down: int
    round_trips: int
    confirmation_bytes_up: int
    confirmation_bytes_down: int
    server_parts_ms: Mapping[str, float]
    server_confirmation_parts_ms: Mapping[str, float]
    device_parts_ms: Mapping[str, float]
    wall_parts_ms: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to what the clocks can tell."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return value
