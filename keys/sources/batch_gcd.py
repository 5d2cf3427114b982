"""Moduli that share a prime, among many at once: batch gcd over a product tree and a remainder tree.

Heninger, Durumeric, Wustrow, Halderman: Mining your Ps and Qs, USENIX Security 2012, section 3.3, after Bernstein, How
to find smooth parts of integers, 2004. With P the product of all moduli, gcd(N_i, (P mod N_i^2) / N_i) is the part of
N_i that divides the product of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import gmpy2


def shared_factors(moduli: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs (i, j), i < j, whose moduli are equal or share a factor, in ascending order.

    ValueError for a modulus below 2. Quasi-linear in the number of moduli, quadratic in how many are affected.
    """
    if any(modulus < 2 for modulus in moduli):
        raise ValueError("a modulus is at least 2")
    numbers = [gmpy2.mpz(modulus) for modulus in moduli]
    remainders = _remainders_modulo_squares(numbers)
    affected = [
        index
        for index, (number, remainder) in enumerate(zip(numbers, remainders, strict=True))
        if gmpy2.gcd(number, remainder // number) != 1
    ]
    return [(i, j) for i, j in combinations(affected, 2) if gmpy2.gcd(numbers[i], numbers[j]) != 1]


def _remainders_modulo_squares(numbers: list[gmpy2.mpz]) -> list[gmpy2.mpz]:
    """The product of all numbers modulo the square of each."""
    if not numbers:
        return []
    levels = [numbers]
    while len(levels[-1]) > 1:
        below = levels[-1]
        # An odd one out is carried up as it is.
        pairs = [below[at] * below[at + 1] for at in range(0, len(below) - 1, 2)]
        levels.append(pairs + below[len(pairs) * 2 :])
    remainders = levels.pop()
    while levels:
        remainders = [remainders[index // 2] % (node * node) for index, node in enumerate(levels.pop())]
    return remainders
