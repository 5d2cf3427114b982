"""10,000 splits of one key by the system's generator: d2 and |d1| = d2 − d look uniform, and a bad split is seen.

A statistic is rejected at a p-value below α or above 1 − α, with α = 1e-7 / (2 · number of statistics); that of a
single bit only below, for exactly half of the draws is nothing rare there.
By the union bound a good generator fails once in ten million runs; the chi-square approximation of the tail may
be off by a small factor at these sizes, for which the promise made is only 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from parties import private_exponent, private_key, public_key

from mpc.errors import DecodeError
from mpc.primitives.rng import Rng, SystemRng
from mpc.threshold_rsa.shares import share_bits, split

PRIVATE = private_key(2048)
KEY = public_key(PRIVATE)
D = private_exponent(PRIVATE)
B = share_bits(KEY)
SPLITS = 10_000
PRIMES = [p for p in range(3, 102) if all(p % q for q in range(2, p))]
FAMILY_ALPHA = 1e-7


def survival(statistic: float, degrees: int) -> float:
    """P(chi-square with these degrees of freedom > statistic), exactly.

    Q(a + 1, x) = Q(a, x) + x^a e^-x / Γ(a + 1), from Q(1/2, x) = erfc(√x) or Q(1, x) = e^-x (DLMF 8.8.6, 8.4.6),
    with a = degrees / 2 and x = statistic / 2.
    """
    x, a = statistic / 2, 0.5 if degrees % 2 else 0.0
    if x <= 0:
        return 1.0
    total = math.erfc(math.sqrt(x)) if degrees % 2 else 0.0
    while a < degrees / 2:
        total += math.exp(a * math.log(x) - x - math.lgamma(a + 1))
        a += 1
    return min(total, 1.0)


def pearson(counts: npt.NDArray[np.int64]) -> float:
    """p-value of counts over equally likely cells."""
    expected = counts.sum() / len(counts)
    return survival(float(((counts - expected) ** 2).sum() / expected), len(counts) - 1)


@dataclass(frozen=True)
class Draws:
    """d2 and |d1| of many splits."""

    server: list[int]
    device: list[int]


def draws(rng: Rng, splits: int = SPLITS) -> Draws:
    pairs = [split(rng, KEY, D) for _ in range(splits)]
    assert all(device.value + server.value == D and device.value < 0 for device, server in pairs)
    return Draws([server.value for _, server in pairs], [-device.value for device, _ in pairs])


def octets(values: list[int]) -> npt.NDArray[np.uint8]:
    """Shape (splits, B / 8), big-endian. A |d1| below zero or beyond B bits has probability 2^-128."""
    raw = b"".join(value.to_bytes(B // 8, "big") for value in values)
    return np.frombuffer(raw, dtype=np.uint8).reshape(len(values), B // 8)


def p_values(drawn: Draws) -> dict[str, float]:
    """Every statistic of this file, by name."""
    found: dict[str, float] = {}
    for side, values in (("d2", drawn.server), ("|d1|", drawn.device)):
        table = octets(values)
        ones = np.unpackbits(table, axis=1).sum(axis=0, dtype=np.int64)
        # (ones − n/2)² / (n/4) has one degree of freedom for each bit, and the bits are independent.
        squares = (ones - len(values) / 2) ** 2 / (len(values) / 4)
        found |= {f"{side} bit {B - 1 - at}": survival(float(square), 1) for at, square in enumerate(squares)}
        found[f"{side} all bits"] = survival(float(squares.sum()), B)
        found[f"{side} all bytes"] = pearson(np.bincount(table.ravel(), minlength=256).astype(np.int64))
        found[f"{side} first byte"] = pearson(np.bincount(table[:, 0], minlength=256).astype(np.int64))
        for prime in PRIMES:
            residues = np.array([value % prime for value in values])
            found[f"{side} mod {prime}"] = pearson(np.bincount(residues, minlength=prime).astype(np.int64))
    return found


def suspicious(found: dict[str, float]) -> list[str]:
    alpha = FAMILY_ALPHA / (2 * len(found))
    return [name for name, p in found.items() if p < alpha or (p > 1 - alpha and " bit " not in name)]


@cache
def honest() -> Draws:
    return draws(SystemRng())


# --- the splits ------------------------------------------------------------------------------------------------


def test_each_bit_byte_and_residue_of_both_halves_looks_uniform() -> None:
    """What one holder sees must be a coin that knows nothing of d; all statistics count in one family."""
    found = p_values(honest())

    assert len(found) == 2 * (B + 3 + len(PRIMES)) and suspicious(found) == []


def test_d2_is_never_shorter_than_the_modulus_nor_longer_than_b() -> None:
    """A short d2 would show the top bits of d in d1."""
    lengths = [value.bit_length() for value in honest().server]

    assert min(lengths) >= KEY.bits and max(lengths) == B


def test_d2_has_each_length_as_often_as_a_uniform_number() -> None:
    """Half of the draws have B bits, a quarter B − 1, and so on: the whole range [0, 2^B) is in use."""
    shortfall = np.array([min(B - value.bit_length(), 9) for value in honest().server])
    counts = np.bincount(shortfall, minlength=10)
    expected = SPLITS * np.array([2.0 ** -(k + 1) for k in range(9)] + [2.0**-9])

    p = survival(float(((counts - expected) ** 2 / expected).sum()), 9)

    assert p > 1e-8


def test_no_share_occurs_twice() -> None:
    assert len(set(honest().server)) == SPLITS


def test_a_share_without_spare_bits_is_refused_by_the_type_itself() -> None:
    """The shortest d2 that is as long as N leaves a d1 that is shorter, and d1 is refused as d2 would be."""
    with pytest.raises(DecodeError, match="shorter"):
        draws(Biased(lambda _: 1 << (KEY.bits - 1)), 1)


# --- the test itself -------------------------------------------------------------------------------------------


class Biased:
    """The system's generator with one flaw in the number it gives."""

    def __init__(self, flaw: Callable[[int], int]) -> None:
        self._flaw = flaw

    def bytes(self, count: int) -> bytes:
        while True:
            value = self._flaw(int.from_bytes(SystemRng().bytes(count), "big"))
            if value >> (8 * count) == 0:
                return value.to_bytes(count, "big")


def sometimes(share: float) -> bool:
    return int.from_bytes(SystemRng().bytes(4), "big") < share * 2**32


FLAWS: dict[str, tuple[Callable[[int], int], set[str]]] = {
    "the top bit is never set": (lambda x: x & ~(1 << (B - 1)), {f"d2 bit {B - 1}", "d2 first byte", "d2 all bits"}),
    "one bit is set in 57 of 100": (lambda x: x | (1 << 700 if sometimes(0.14) else 0), {"d2 bit 700"}),
    "one draw in ten is a multiple of 7": (lambda x: x - x % 7 if sometimes(0.1) else x, {"d2 mod 7"}),
    "one draw in eight makes d1 a multiple of 3": (
        lambda x: x - (x - D) % 3 if sometimes(0.125) else x,
        {"|d1| mod 3"},
    ),
    "no byte is zero": (
        lambda x: int.from_bytes(x.to_bytes(B // 8, "big").replace(b"\x00", b"\x01"), "big"),
        {"d2 all bytes"},
    ),
    "every draw is even": (lambda x: x & ~1, {"d2 bit 0"}),
    "d2 has half of the spare bits": (lambda x: x >> 64, {"d2 all bits", f"d2 bit {B - 1}", "d2 all bytes"}),
}


@pytest.mark.parametrize("name", list(FLAWS))
def test_a_biased_split_is_noticed(name: str) -> None:
    """Each by the statistic that is there for it; a test that cannot fail would show nothing above."""
    flaw, expected = FLAWS[name]

    found = suspicious(p_values(draws(Biased(flaw))))

    assert expected <= set(found)


def test_numbers_too_even_for_chance_are_noticed() -> None:
    """A counter instead of a generator has every residue equally often, which chance never does."""
    start = 1 << (B - 1)

    found = suspicious(p_values(Draws(*[[start + k for k in range(SPLITS)]] * 2)))

    assert {"d2 mod 97", "d2 mod 101"} <= set(found)
    assert survival(0.0, 100) == 1.0


@pytest.mark.parametrize(
    ("statistic", "degrees", "p"),
    [
        (3.841459, 1, 0.05),
        (10.827566, 1, 0.001),
        (5.991465, 2, 0.05),
        (18.307038, 10, 0.05),
        (29.588298, 10, 0.001),
        (31.410433, 20, 0.05),
        (124.342113, 100, 0.05),
        (149.449253, 100, 0.001),
        (77.929465, 100, 0.95),
    ],
)
def test_the_critical_values_are_those_of_the_printed_tables(statistic: float, degrees: int, p: float) -> None:
    """NIST/SEMATECH e-Handbook, section 1.3.6.7.4, to more places."""
    assert survival(statistic, degrees) == pytest.approx(p, rel=2e-5)


def test_many_degrees_of_freedom_agree_with_wilson_and_hilferty() -> None:
    """(X/k)^(1/3) is nearly normal with mean 1 − 2/(9k) and variance 2/(9k); an independent formula."""
    for degrees in (255, 2176):
        for deviations in (-4.0, -1.0, 0.0, 1.0, 4.0, 6.0):
            spread = 2 / (9 * degrees)
            statistic = degrees * (1 - spread + deviations * math.sqrt(spread)) ** 3
            normal = math.erfc(deviations / math.sqrt(2)) / 2
            assert survival(statistic, degrees) == pytest.approx(normal, rel=0.1)
