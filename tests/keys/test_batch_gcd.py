"""Batch gcd finds exactly the pairs that gcd finds one by one."""

from __future__ import annotations

from itertools import combinations
from math import gcd

import gmpy2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.sources.batch_gcd import shared_factors


@given(st.lists(st.integers(2, 2000), max_size=25))
def test_the_pairs_are_those_of_gcd(moduli: list[int]) -> None:
    expected = [(i, j) for i, j in combinations(range(len(moduli)), 2) if gcd(moduli[i], moduli[j]) != 1]
    assert shared_factors(moduli) == expected


def test_a_shared_prime_among_large_moduli_is_found() -> None:
    primes = [int(gmpy2.next_prime((3 << 1022) + (n << 900))) for n in range(8)]
    p = primes
    assert shared_factors([p[0] * p[1], p[2] * p[3], p[4] * p[1], p[5] * p[6]]) == [(0, 2)]
    assert shared_factors([p[0] * p[1], p[2] * p[3], p[4] * p[5]]) == []


def test_equal_moduli_are_found() -> None:
    """The same key twice in a batch: two devices would share it."""
    assert shared_factors([35, 11 * 13, 35]) == [(0, 2)]


def test_a_modulus_whose_both_primes_are_shared_is_found_with_each() -> None:
    assert shared_factors([11 * 13, 17 * 13, 11 * 19, 23 * 29]) == [(0, 1), (0, 2)]


def test_few_moduli_are_no_special_case() -> None:
    assert shared_factors([]) == shared_factors([15]) == []


def test_moduli_below_2_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        shared_factors([15, 1])


def test_one_shared_prime_is_found_among_thousands() -> None:
    """One by one they would be millions of divisions; a fleet's ceremony must not wait for them."""
    random = gmpy2.random_state(11)
    small = gmpy2.primorial(2**17)
    shared = int(gmpy2.next_prime(3 << 1022))
    moduli: list[int] = []
    while len(moduli) < 2_998:
        candidate = gmpy2.mpz_urandomb(random, 2048) | 1 | (1 << 2047)
        while (common := gmpy2.gcd(candidate, small)) != 1:
            candidate //= common
        moduli.append(int(candidate))
    moduli[100:100] = [shared * int(gmpy2.next_prime(1 << 1023))]
    moduli.append(shared * int(gmpy2.next_prime(5 << 1021)))

    pairs = shared_factors(moduli)

    assert (100, 2_999) in pairs
    # The others are no products of two primes, so a few of them share a factor beyond the small ones by chance.
    assert len(pairs) < 50 and all(gcd(moduli[i], moduli[j]) > 1 for i, j in pairs)
