"""RSA keys from draws: the first probable primes at or above them. Everybody can compute them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import gmpy2

from interop.drawing import Draws
from interop.notation import Json
from mpc.parameters import PUBLIC_EXPONENT
from mpc.threshold_rsa.public_key import PublicKey


@dataclass(frozen=True, slots=True)
class GivenKey:
    """A whole RSA key, as a device has it for a moment before it splits it. d = e^-1 mod lcm(p − 1, q − 1)."""

    p: int
    q: int
    d: int
    public: PublicKey
    seed: str

    def shown(self) -> Json:
        """The numbers, big-endian."""
        half = self.public.size_bytes // 2
        return {
            "prime_seed": self.seed,
            "p": self.p.to_bytes(half, "big").hex(),
            "q": self.q.to_bytes(half, "big").hex(),
            "e": self.public.exponent,
            "N": self.public.modulus_bytes.hex(),
            "d": self.d.to_bytes(self.public.size_bytes, "big").hex(),
        }


@lru_cache(maxsize=4)
def given_key(bits: int) -> GivenKey:
    """p and q: draws of bits/2 with the two highest bits set, then the next prime."""
    draws = Draws(f"tandem vectors: primes of {bits} bits")
    with draws.named("p", "q"):
        p, q = (_prime(draws.bytes(bits // 16)) for _ in range(2))
    e = PUBLIC_EXPONENT
    public = PublicKey(p * q, e)
    assert public.bits == bits and math.gcd(e, (p - 1) * (q - 1)) == 1
    return GivenKey(p, q, pow(e, -1, math.lcm(p - 1, q - 1)), public, draws.seed)


def _prime(drawn: bytes) -> int:
    start = int.from_bytes(drawn, "big") | 0b11 << (8 * len(drawn) - 2)
    return int(gmpy2.next_prime(start - 1))
