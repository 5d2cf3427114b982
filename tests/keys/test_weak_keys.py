"""Every weakness is refused with its own reason, on keys that are made to have it; sound keys pass."""

from __future__ import annotations

from pathlib import Path

import gmpy2
import pytest
import source_samples as samples
from cryptography.hazmat.primitives.asymmetric import rsa

from keys.sources.source_key import SourceKey
from keys.sources.weak_keys import REASONS, WeakKey, _roca_subgroups, has_roca_fingerprint, refuse_weak
from mpc.parameters import MAX_EXPONENT


def refused(key: SourceKey, *, allow_exponent: bool = False) -> str:
    with pytest.raises(WeakKey) as caught:
        refuse_weak(key, allow_exponent=allow_exponent)
    error = caught.value
    assert error.__cause__ is None and error.__context__ is None
    text = str(error)
    for number in (key.modulus, key.private_exponent, key.p, key.q):
        assert number < 1000 or (str(number) not in text and f"{number:x}" not in text)
    assert error.reason in REASONS
    return error.reason


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_keys_of_the_library_pass(bits: int) -> None:
    """A check that refuses sound keys would be switched off by its operators."""
    numbers = rsa.generate_private_key(65537, bits).private_numbers()
    crt = (numbers.dmp1, numbers.dmq1, numbers.iqmp)
    refuse_weak(SourceKey(numbers.public_numbers.n, 65537, numbers.d, numbers.p, numbers.q, crt))


def test_an_exponent_modulo_phi_passes_as_well() -> None:
    """Some libraries compute d modulo φ(N) instead of λ(N); both are right."""
    key = samples.sound_key()
    d = int(gmpy2.invert(key.exponent, (key.p - 1) * (key.q - 1)))
    refuse_weak(samples.with_changes(key, private_exponent=d, crt=None))


def test_short_and_long_moduli_are_refused() -> None:
    assert refused(samples.source_of(samples.prime(1023), samples.prime(1023))) == "short_modulus"
    assert refused(samples.source_of(samples.prime(2056), samples.prime(2056))) == "long_modulus"
    assert refused(samples.with_changes(samples.sound_key(), modulus=-samples.sound_key().modulus)) == "short_modulus"


def test_a_modulus_of_odd_length_is_refused() -> None:
    assert refused(samples.source_of(samples.prime(1025), samples.prime(1024))) == "odd_length"


def test_an_even_modulus_is_refused() -> None:
    key = samples.sound_key()
    assert refused(samples.with_changes(key, modulus=key.modulus + 1)) == "even_modulus"


@pytest.mark.parametrize("e", [3, 17, 257, 65539])
def test_another_exponent_is_refused_unless_it_is_allowed(e: int) -> None:
    p, q = (samples.prime_after(samples.prime(1024), e) for _ in range(2))
    key = samples.source_of(p, q, e)

    assert refused(key) == "unusual_exponent"
    refuse_weak(key, allow_exponent=True)


@pytest.mark.parametrize("e", [-65537, 0, 1, 2, 4, 65536, MAX_EXPONENT + 2, 2**64 + 1])
def test_some_exponents_are_never_taken(e: int) -> None:
    """1 signs nothing, an even one has no inverse, and what is longer other implementations refuse."""
    key = samples.with_changes(samples.sound_key(), exponent=e)
    assert refused(key) == refused(key, allow_exponent=True) == "bad_exponent"


@pytest.mark.parametrize("small", [3, 751, 65521])
def test_a_small_factor_is_refused(small: int) -> None:
    assert refused(samples.source_of(small, samples.prime_after((3 << 2046) // small))) == "small_factor"


@pytest.mark.parametrize("generators", [39, 71, 126])
def test_keys_of_the_roca_form_are_refused(generators: int) -> None:
    """Of that form are the keys of millions of smart cards; they look random otherwise."""
    p, q = (samples.roca_prime(1024, generators) for _ in range(2))
    assert refused(samples.source_of(p, q)) == "roca"


def test_one_prime_of_the_roca_form_is_not_the_fingerprint() -> None:
    """The check looks at the product: a prime of another form hides the subgroup."""
    assert not has_roca_fingerprint(samples.roca_prime(1024, 126) * samples.prime(1024))


def test_the_roca_fingerprint_is_as_rare_as_documented() -> None:
    rarity = 1.0
    for prime, powers in _roca_subgroups():
        assert powers == {pow(65537, a, prime) for a in range(prime)}
        rarity *= (prime - 1) / len(powers)
    assert 2.3e8 < rarity < 2.4e8
    # Of the 38 odd primes up to 167, 65537 generates all residues modulo the others.
    primes = [n for n in range(3, 168) if gmpy2.is_prime(n)]
    assert len(primes) == 38
    left_out = set(primes) - {prime for prime, _ in _roca_subgroups()}
    assert all(len({pow(65537, a, prime) for a in range(prime)}) == prime - 1 for prime in left_out)


def test_a_modulus_that_is_not_p_times_q_is_refused() -> None:
    key = samples.sound_key()
    assert refused(samples.with_changes(key, p=key.p + 2)) == "wrong_factors"
    assert refused(samples.with_changes(key, p=-key.p, q=-key.q)) == "wrong_factors"
    assert refused(samples.with_changes(key, p=1, q=key.modulus)) == "wrong_factors"
    assert refused(samples.with_changes(key, p=0, q=0)) == "wrong_factors"


@pytest.mark.parametrize("bits", [1000, 1023, 512])
def test_primes_of_unequal_length_are_refused(bits: int) -> None:
    assert refused(samples.source_of(samples.prime(bits), samples.prime(2048 - bits))) == "unequal_primes"


def test_a_prime_below_the_bound_of_fips_186_5_is_refused() -> None:
    """p just below √2·2^1023 and q large enough give a modulus of the right length all the same."""
    low = samples.prime_after(int(gmpy2.isqrt(1 << 2047)) - 2**900)
    high = samples.prime_after(2**1024 - 2**1000)
    key = samples.source_of(low, high)
    assert key.modulus.bit_length() == 2048

    assert refused(key) == "unequal_primes"


@pytest.mark.parametrize("distance", [2, 2**100, 2**900, 2**923])
def test_close_primes_are_refused(distance: int) -> None:
    p = samples.prime_after(samples.prime(1024))
    assert (
        refused(samples.source_of(p, samples.prime_after(p + distance - 2**20 * (distance > 2**30)))) == "close_primes"
    )


def test_the_sample_of_close_primes_is_factored_by_fermat() -> None:
    """The sample is broken in fact, not by definition."""
    p = samples.prime_after(samples.prime(1024))
    q = samples.prime_after(p + 2**500)
    assert samples.fermat_factor(p * q, 1000) == p
    assert refused(samples.source_of(p, q)) == "close_primes"


def test_equal_primes_are_refused() -> None:
    p = samples.prime_after(samples.prime(1024))
    assert refused(samples.source_of(p, p)) == "close_primes"


def test_primes_just_beyond_the_bound_pass() -> None:
    p = samples.prime_after(samples.prime(1024))
    refuse_weak(samples.source_of(p, samples.prime_after(p + 2**924)))


@pytest.mark.parametrize(("u", "v"), [(5, 4), (7, 6), (64, 63), (61, 47)])
def test_primes_near_a_simple_ratio_are_refused(u: int, v: int) -> None:
    """Fermat's method on u·v·N finds them, though they are far from each other."""
    q = samples.prime_after(3 << 1022)
    p = samples.prime_after(q * u // v - 2**400)
    if p.bit_length() != 1024:
        q = samples.prime_after(q * v // u)
        p = samples.prime_after(q * u // v - 2**400)
    key = samples.source_of(p, q)
    assert samples.fermat_factor(4 * u * v * key.modulus, 1000) is not None

    assert refused(key) == "close_ratio"


def test_composite_p_is_refused() -> None:
    p = samples.prime(512) * samples.prime(512)
    while p.bit_length() != 1024 or p * p < 1 << 2047:
        p = samples.prime(512) * samples.prime(512)
    q = samples.prime_after(2**1024 - 2**1000)
    assert refused(samples.source_of(p, q)) == refused(samples.source_of(q, p)) == "not_prime"


def test_an_exponent_that_divides_p_minus_1_is_refused() -> None:
    """There is no private exponent then, whatever the file says."""
    step = 2 * 65537
    p = samples.prime(1024) // step * step + 1
    while not gmpy2.is_prime(p):
        p += step
    assert refused(samples.source_of(p, samples.prime(1024))) == "shared_exponent_factor"


def test_a_short_private_exponent_is_refused() -> None:
    """Wiener: from a d of a quarter of N's length, N is factored by a continued fraction."""
    key = samples.sound_key()
    period = int(gmpy2.lcm(key.p - 1, key.q - 1))
    for d in (3, 2**511 + 1, 2**1024, period + 5):
        assert refused(samples.with_changes(key, private_exponent=d, crt=None)) == "short_private_exponent"


def test_an_inconsistent_private_exponent_is_refused() -> None:
    key = samples.sound_key()
    for d in (key.private_exponent + 2, key.private_exponent - 1, key.private_exponent + key.modulus * key.modulus):
        assert refused(samples.with_changes(key, private_exponent=d)) == "inconsistent_exponent"
    # Right modulo λ(N), but outside of the range that the shares are made for.
    period = int(gmpy2.lcm(key.p - 1, key.q - 1))
    d = key.private_exponent + period * (key.modulus // period + 1)
    assert refused(samples.with_changes(key, private_exponent=d)) == "inconsistent_exponent"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_inconsistent_remainders_are_refused(position: int) -> None:
    """A file with one wrong remainder gives signatures that betray a prime: its maker cannot be trusted."""
    key = samples.sound_key()
    assert key.crt is not None
    crt = [value + (at == position) for at, value in enumerate(key.crt)]
    assert refused(samples.with_changes(key, crt=tuple(crt))) == "inconsistent_crt"


def test_every_reason_is_tested() -> None:
    """A check that no sample meets may never fire."""
    here = Path(__file__).read_text(encoding="utf-8")
    assert [reason for reason in REASONS if f'== "{reason}"' not in here] == []
