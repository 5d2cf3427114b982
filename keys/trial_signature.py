"""The trial of a new pair of halves: both sign a message, and an independent verifier accepts the product."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from keys.source_key import SourceKey
from mpc.primitives import modular
from mpc.primitives.rng import Rng
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare

# No authenticator data begins like this, so the signature, which nobody keeps anyway, fits no login.
_MESSAGE = b"tandem trial signature v1 "


class TrialFailed(Exception):
    """The halves of a key do not sign. The machine computes wrongly, or the key is not what its checks said: use
    another machine, and do not hand out anything of this run.
    """


def try_halves(rng: Rng, source: SourceKey, device_share: KeyShare, server_share: KeyShare) -> None:
    """Raises TrialFailed unless the product of the two partial signatures is a valid RS256 signature."""
    key = source.public
    message = _MESSAGE + key.key_id
    encoded = encode_message(Algorithm.RS256, message, None, key.bits)
    inverse = _inverse_of_q(rng, source)
    device, server = (_partial_signature(source, inverse, encoded, half.value) for half in (device_share, server_share))
    signature = (device * server % key.modulus).to_bytes(key.size_bytes, "big")
    try:
        RSAPublicNumbers(key.exponent, key.modulus).public_key().verify(signature, message, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        raise TrialFailed("the halves of a key do not sign together") from None


def _partial_signature(source: SourceKey, inverse_of_q: int, encoded: int, share: int) -> int:
    """EM^share mod N, the number that `mpc.threshold_rsa.signing.partial_signature` gives, at less than half the cost.

    Fermat: EM^share = EM^(share mod p−1) (mod p), also for a negative share, whose EM^-1 is EM^(p−2). The two residues
    fix the value modulo N = p·q (Chinese remainders). Only the dealer can do this: it still has p and q.
    """
    p, q = source.p, source.q
    at_p = _power(encoded % p, share % (p - 1), p)
    at_q = _power(encoded % q, share % (q - 1), q)
    # Garner: x = x_q + q·((x_p − x_q)·q^-1 mod p)
    return at_q + q * ((at_p - at_q) * inverse_of_q % p)


def _inverse_of_q(rng: Rng, source: SourceKey) -> int:
    """q^-1 mod p."""
    # Inversion is not constant-time, so what is inverted is q times a fresh random factor, which tells nothing of q.
    factor = int.from_bytes(rng.bytes((source.p.bit_length() + 7) // 8), "big") % source.p
    blinded = modular.public_inverse(source.q * factor, source.p)
    if blinded is None:
        raise TrialFailed("p and q of a key are not two primes")
    return blinded * factor % source.p


def _power(base: int, exponent: int, prime: int) -> int:
    # The routine takes no exponent 0, which a share has here once in 2^1023 keys.
    return modular.power(base, exponent or prime - 1, prime)
