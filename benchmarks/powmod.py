"""The unit that costs are compared with: one bare exponentiation with a private exponent."""

from __future__ import annotations

import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import gmpy2


class Powmod:
    """Bare `gmpy2.powmod_sec`: same modulus length, a private exponent of full length."""

    def __init__(self, bits: int) -> None:
        self._modulus = gmpy2.mpz(_full_length(bits) | 1)
        self._exponent = gmpy2.mpz(_full_length(bits))
        self._samples_ms: list[float] = []

    def one(self) -> None:
        base = gmpy2.mpz(secrets.randbits(self._modulus.bit_length() - 1))
        start = time.thread_time_ns()
        gmpy2.powmod_sec(base, self._exponent, self._modulus)
        self._samples_ms.append((time.thread_time_ns() - start) / 1e6)

    def side_by_side(self, count: int, threads: int) -> None:
        """`count` in each of so many threads at once; the exponentiation releases the interpreter's lock."""
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: self.one(), range(count * threads)))

    @property
    def median_ms(self) -> float:
        return statistics.median(self._samples_ms)

    @property
    def mean_ms(self) -> float:
        return statistics.mean(self._samples_ms)


def _full_length(bits: int) -> int:
    return secrets.randbits(bits) | 1 << (bits - 1)
