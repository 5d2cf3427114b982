"""Security parameters and suites, as named sets with their source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """One full choice of primitives. `number` goes over the wire; an unknown number is refused."""

    number: int
    kappa_bits: int
    """Computational security: length of Δ, of a wire label and of a base-OT key."""
    check_rows: int
    """Rows of the OT consistency check. The challenge comes from a hash (Fiat–Shamir), so an attacker tries
    offline: statistical security must equal the computational one (Roy, CRYPTO 2022, section 5)."""
    share_margin_bits: int
    """How much longer than N the random key share is: the statistical distance of d1 from a value
    independent of d is 2^-margin."""
    share_growth_bits: int
    """Head room for refreshes: 2^growth of them fit in the stored width."""


TANDEM_SUITE_1 = Suite(number=1, kappa_bits=128, check_rows=128, share_margin_bits=128, share_growth_bits=64)
"""IKNP with the SoftSpokenOT check (k = 1), half-gates, fixed-key AES-128, SHA-256, X25519, AES-256-GCM."""

PROTOCOL_VERSION = 1

MIN_MODULUS_BITS = 2048
MAX_MODULUS_BITS = 4096
PUBLIC_EXPONENT = 65537
MAX_EXPONENT = 2**31 - 1
MAX_TEMPLATES = 5
MIN_CODE_BITS = 512
MAX_CODE_BITS = 4096
