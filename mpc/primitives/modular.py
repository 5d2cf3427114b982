"""The one place where big integers meet secrets.

`powmod_sec` is GMP's exponentiation that is constant-time in base and exponent of a given size. Python's own
`pow` is neither constant-time nor fast. gmpy2 numbers cannot be wiped: see docs/known-weaknesses.md.
"""

from __future__ import annotations

import gmpy2


def power(base: int, secret_exponent: int, odd_modulus: int) -> int:
    """base^secret_exponent mod odd_modulus, by GMP's side-channel-silent routine.

    `secret_exponent` must be positive. Other Python threads run meanwhile (the flag is per thread, so it is set
    at each call).
    """
    gmpy2.get_context().allow_release_gil = True
    return int(gmpy2.powmod_sec(base, secret_exponent, odd_modulus))


def public_inverse(value: int, modulus: int) -> int | None:
    """value^-1 mod modulus, or None where there is none. Not constant-time: only for values both sides know."""
    try:
        return int(gmpy2.invert(value, modulus))
    except ZeroDivisionError:
        return None
