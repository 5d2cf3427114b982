"""RSA keys that are made once for many tests: making them is slow, and not under test where a conftest takes this."""

from __future__ import annotations

from functools import lru_cache
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from mpc.primitives.rng import Rng
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, split

_KEYS = 4
_next_key = count()


@lru_cache(maxsize=_KEYS)
def _private_key(which: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _split_cached_key(rng: Rng, modulus_bits: int) -> tuple[KeyShare, KeyShare]:
    """A real split of a real key that another credential of another test may have had."""
    assert modulus_bits == 2048
    numbers = _private_key(next(_next_key) % _KEYS).private_numbers()
    return split(rng, PublicKey(numbers.public_numbers.n), numbers.d)


@pytest.fixture(autouse=True)
def cached_rsa_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making RSA keys is slow and not under test here."""
    monkeypatch.setattr("device_sdk.registration.generate_split_key", _split_cached_key)
