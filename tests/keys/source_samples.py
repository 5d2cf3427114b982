"""RSA numbers made to order, good and weak, and the files that hold them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import isqrt

import gmpy2
from cryptography.hazmat.primitives.asymmetric import rsa

from keys.sources.source_key import SourceKey

E = 65537
_random = gmpy2.random_state(20260)


@cache
def sound_key() -> SourceKey:
    numbers = rsa.generate_private_key(E, 2048).private_numbers()
    return source_of(numbers.p, numbers.q)


def source_of(p: int, q: int, e: int = E) -> SourceKey:
    """A key whose numbers all fit, as far as e allows."""
    d = private_exponent(p, q, e)
    crt = (d % (p - 1), d % (q - 1), int(gmpy2.invert(q, p))) if gmpy2.gcd(p, q) == 1 else None
    return SourceKey(p * q, e, d, p, q, crt)


def private_exponent(p: int, q: int, e: int) -> int:
    period = gmpy2.lcm(p - 1, q - 1)
    return int(gmpy2.invert(e, period)) if gmpy2.gcd(e, period) == 1 else int(period - 1)


def prime(bits: int) -> int:
    """A random prime with its two top bits set."""
    return int(gmpy2.next_prime(gmpy2.mpz_urandomb(_random, bits - 2) | (3 << (bits - 2))))


def prime_after(at: int, e: int = E) -> int:
    """The next prime that goes with e."""
    while True:
        at = int(gmpy2.next_prime(at))
        if gmpy2.gcd(at - 1, e) == 1:
            return at


def roca_prime(bits: int, generators: int) -> int:
    """k·M + (65537^a mod M), M the product of the first `generators` primes (Nemec et al. 2017, section 2.1)."""
    product = gmpy2.mpz(1)
    last = 1
    for _ in range(generators):
        last = gmpy2.next_prime(last)
        product *= last
    while True:
        k = (gmpy2.mpz_urandomb(_random, bits - 2) | (3 << (bits - 2))) // product
        a = gmpy2.mpz_urandomb(_random, 128)
        candidate = k * product + gmpy2.powmod(E, a, product)
        if candidate.bit_length() == bits and gmpy2.is_prime(candidate):
            return int(candidate)


def with_changes(key: SourceKey, **changes: object) -> SourceKey:
    return replace(key, **changes)  # type: ignore[arg-type]


def fermat_factor(modulus: int, steps: int) -> int | None:
    """What an attacker does with close primes: a factor, or None."""
    a = isqrt(modulus) + 1
    for _ in range(steps):
        b = isqrt(a * a - modulus)
        if b * b == a * a - modulus:
            return a - b
        a += 1
    return None


def pkcs1_der(key: SourceKey) -> bytes:
    """RFC 8017 appendix A.1.2, whatever the numbers are."""
    assert key.crt is not None
    numbers = (0, key.modulus, key.exponent, key.private_exponent, key.p, key.q, *key.crt)
    return tlv(0x30, *(integer(number) for number in numbers))


def pkcs8_der(key: SourceKey) -> bytes:
    """RFC 5958 with the algorithm rsaEncryption."""
    algorithm = tlv(0x30, bytes.fromhex("06092a864886f70d010101"), b"\x05\x00")
    return tlv(0x30, integer(0), algorithm, tlv(0x04, pkcs1_der(key)))


def pkcs12_der(*pkcs8: bytes) -> bytes:
    """A PKCS#12 without protection that holds these keys (RFC 7292 section 4)."""
    data = bytes.fromhex("06092a864886f70d010701")
    key_bag = bytes.fromhex("060b2a864886f70d010c0a0101")
    bags = tlv(0x30, *(tlv(0x30, key_bag, tlv(0xA0, key)) for key in pkcs8))
    safe = tlv(0x30, tlv(0x30, data, tlv(0xA0, tlv(0x04, bags))))
    return tlv(0x30, integer(3), tlv(0x30, data, tlv(0xA0, tlv(0x04, safe))))


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
