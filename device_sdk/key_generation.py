"""A fresh RSA key, split at once. The only moment at which this device holds a whole private key."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import rsa

from mpc.parameters import PUBLIC_EXPONENT
from mpc.primitives.rng import Rng
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, split

MODULUS_BITS = (2048, 3072, 4096)


def generate_split_key(rng: Rng, modulus_bits: int) -> tuple[KeyShare, KeyShare]:
    """(device's, server's) share of a new key. Raises ValueError for another size than 2048, 3072 or 4096.

    d, p and q go out of scope here. Python gives no way to overwrite them: see docs/known-weaknesses.md.
    """
    if modulus_bits not in MODULUS_BITS:
        raise ValueError("modulus_bits: one of 2048, 3072, 4096")
    numbers = rsa.generate_private_key(public_exponent=PUBLIC_EXPONENT, key_size=modulus_bits).private_numbers()
    return split(rng, PublicKey(numbers.public_numbers.n), numbers.d)
