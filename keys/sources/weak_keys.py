"""Why a key is not fit to be dealt: each reason a word for programs and a sentence for the operator.

Run on the offline machine over the whole key. The arithmetic is not constant-time in p, q and d: whoever can time the
dealer's process stands inside the room of the ceremony anyway.

What is not looked for: keys from a known list (such as Debian's of 2008), and p − 1 or p + 1 with small factors only,
which FIPS 186-5 no longer asks for at these sizes.
"""

from __future__ import annotations

import secrets
from functools import cache
from math import isqrt

import gmpy2

from keys.sources.source_key import SourceKey
from mpc.parameters import MAX_EXPONENT, MAX_MODULUS_BITS, MIN_MODULUS_BITS, PUBLIC_EXPONENT

_PRIME_ROUNDS = 40
"""Miller–Rabin rounds: a composite passes with probability 4^-40, whoever chose it (FIPS 186-5 appendix B.3.1)."""
_SMALL_FACTOR_BOUND = 2**16
_CLOSE_BITS = 100
_SIMPLE_RATIO = 64
_ROCA_BOUND = 167
_ROCA_GENERATOR = 65537

_SENTENCES = {
    "short_modulus": f"the modulus has fewer than {MIN_MODULUS_BITS} bits",
    "long_modulus": f"the modulus has more than {MAX_MODULUS_BITS} bits",
    "odd_length": "the modulus has an odd number of bits",
    "even_modulus": "the modulus is even",
    "unusual_exponent": f"the public exponent is not {PUBLIC_EXPONENT}; to deal it all the same, say --allow-exponent",
    "bad_exponent": "the public exponent is even or not between 3 and 2^31 − 1",
    "small_factor": f"the modulus has a prime factor below {_SMALL_FACTOR_BOUND}",
    "roca": "the modulus has the fingerprint of the ROCA weakness (CVE-2017-15361) and can be factored",
    "wrong_factors": "the modulus is not the product of p and q",
    "unequal_primes": "p and q are not both of half the modulus's length",
    "close_primes": "p and q are so close to each other that the modulus can be factored",
    "close_ratio": "p and q are close to a ratio of two small numbers, so that the modulus can be factored",
    "not_prime": "p or q is not a prime",
    "shared_exponent_factor": "the public exponent shares a factor with p − 1 or q − 1",
    "short_private_exponent": "the private exponent is so short that it can be found from the public key",
    "inconsistent_exponent": "the private exponent does not belong to the public one",
    "inconsistent_crt": "the stored remainders (dp, dq, qinv) do not belong to the key",
}
REASONS = tuple(_SENTENCES)


class WeakKey(Exception):
    """A key is refused. `reason` is one of `REASONS`; the text tells why, and holds none of the key's numbers.

    What to do: make a new key, and treat what the old one protected as lost if the reason is one by which it can be
    factored.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def refuse_weak(source: SourceKey, *, allow_exponent: bool = False) -> None:
    """Raise WeakKey for the first reason found; return for a key without one.

    allow_exponent: take any odd public exponent from 3 to 2^31 − 1. Keys that share a prime with another one are found
    by `keys.sources.batch_gcd`.
    """
    _check_public_part(source.modulus, source.exponent, allow_exponent=allow_exponent)
    _check_primes(source)
    _check_private_exponent(source)


def has_roca_fingerprint(modulus: int) -> bool:
    """Whether N modulo every prime up to 167 is a power of 65537 (CVE-2017-15361).

    Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack, CCS 2017, section 2.2. The primes of the
    flawed library are k·M + (65537^a mod M) with M the product of the first primes, 39 or more of them, so N is such a
    power modulo each. A sound modulus looks like that once in 2^27.8 cases (about 1 in 240 million).
    """
    return all(modulus % prime in powers for prime, powers in _roca_subgroups())


def _check_public_part(modulus: int, exponent: int, *, allow_exponent: bool) -> None:
    # SP 800-131A rev. 2, section 3: at least 2,048 bits. FIPS 186-5 section 5.1: an even number of them.
    bits = modulus.bit_length()
    if modulus < 0 or bits < MIN_MODULUS_BITS:
        raise _weak("short_modulus")
    if bits > MAX_MODULUS_BITS:
        raise _weak("long_modulus")
    if bits % 2:
        raise _weak("odd_length")
    if modulus % 2 == 0:
        raise _weak("even_modulus")
    # FIPS 186-5 section A.1.1 asks for 2^16 < e < 2^256, odd. The upper bound here is that of other implementations.
    if exponent % 2 == 0 or not 3 <= exponent <= MAX_EXPONENT:
        raise _weak("bad_exponent")
    if exponent != PUBLIC_EXPONENT and not allow_exponent:
        raise _weak("unusual_exponent")
    # SP 800-89 section 5.3.3 asks for none below 752.
    if gmpy2.gcd(modulus, _small_primes_product()) != 1:
        raise _weak("small_factor")
    if has_roca_fingerprint(modulus):
        raise _weak("roca")


def _check_primes(source: SourceKey) -> None:
    p, q = source.p, source.q
    half = source.modulus.bit_length() // 2
    if p * q != source.modulus or p < 2 or q < 2:
        raise _weak("wrong_factors")
    # FIPS 186-5 section A.1.1: √2·2^(nlen/2 − 1) ≤ p, q < 2^(nlen/2).
    if any(prime.bit_length() != half or prime * prime < 1 << (2 * half - 1) for prime in (p, q)):
        raise _weak("unequal_primes")
    # FIPS 186-5 section A.1.3: |p − q| > 2^(nlen/2 − 100). Fermat's method takes about (p − q)^2 / 8√N steps, so beyond
    # this bound no feasible number of them succeeds. Lehman's (Math. Comp. 28, 1974) is the same on u·v·N, and finds p
    # and q with u·p close to v·q for small u and v.
    bound = 1 << (half - _CLOSE_BITS)
    if abs(p - q) <= bound:
        raise _weak("close_primes")
    if _near_simple_ratio(p, q, bound):
        raise _weak("close_ratio")
    if not (_is_prime(p) and _is_prime(q)):
        raise _weak("not_prime")


def _check_private_exponent(source: SourceKey) -> None:
    p, q, d = source.p, source.q, source.private_exponent
    period = gmpy2.lcm(p - 1, q - 1)
    if gmpy2.gcd(source.exponent, period) != 1:
        raise _weak("shared_exponent_factor")
    # FIPS 186-5 section A.1.1: 2^(nlen/2) < d. It covers Wiener (1990), d < N^0.25 / 3, and Boneh, Durfee (1999),
    # d < N^0.292. The exponent counts modulo λ(N): d + λ(N) is no better than d.
    if d % period <= 1 << (source.modulus.bit_length() // 2):
        raise _weak("short_private_exponent")
    if not 0 < d < source.modulus or source.exponent * d % period != 1:
        raise _weak("inconsistent_exponent")
    # RFC 8017 section 3.2. A wrong one gives a wrong signature that betrays a prime (Boneh, DeMillo, Lipton 1997).
    if source.crt is not None:
        dp, dq, qinv = source.crt
        if dp != d % (p - 1) or dq != d % (q - 1) or not 0 < qinv < p or qinv * q % p != 1:
            raise _weak("inconsistent_crt")


def _is_prime(number: int) -> bool:
    # The library's own further rounds use bases that everybody can compute, for which composites can be made (Albrecht
    # et al., Prime and Prejudice, CCS 2018); so its test of Baillie, Pomerance, Selfridge and Wagstaff comes first, and
    # rounds with secret bases follow.
    bases = (2 + secrets.randbelow(number - 3) for _ in range(_PRIME_ROUNDS))
    return bool(gmpy2.is_prime(number)) and all(gmpy2.is_strong_prp(number, base) for base in bases)


def _near_simple_ratio(p: int, q: int, bound: int) -> bool:
    """Whether |u·p − v·q| ≤ bound for some u, v from 1 to 64. By chance: less than 2^-80."""
    # For each u the one v that can fit is the nearest integer to u·p / q.
    for u in range(1, _SIMPLE_RATIO + 1):
        v = (2 * u * p + q) // (2 * q)
        if 1 <= v <= _SIMPLE_RATIO and abs(u * p - v * q) <= bound:
            return True
    return False


@cache
def _small_primes_product() -> gmpy2.mpz:
    return gmpy2.primorial(_SMALL_FACTOR_BOUND)


@cache
def _roca_subgroups() -> tuple[tuple[int, frozenset[int]], ...]:
    """(prime, powers of 65537 modulo it), for those primes where these are not all residues."""
    primes = [n for n in range(3, _ROCA_BOUND + 1) if all(n % divisor for divisor in range(2, isqrt(n) + 1))]
    subgroups = ((prime, _powers(_ROCA_GENERATOR % prime, prime)) for prime in primes)
    return tuple((prime, powers) for prime, powers in subgroups if len(powers) < prime - 1)


def _powers(base: int, modulus: int) -> frozenset[int]:
    powers, value = {1}, base
    while value not in powers:
        powers.add(value)
        value = value * base % modulus
    return frozenset(powers)


def _weak(reason: str) -> WeakKey:
    return WeakKey(reason, _SENTENCES[reason])
