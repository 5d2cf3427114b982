"""One key: made, split, tried, and sealed to its two holders, in one process and without a pause."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa

from keys.dealing.trial_signature import check_halves, try_halves
from keys.sources.source_key import SourceKey
from mpc.parameters import PUBLIC_EXPONENT
from mpc.primitives.rng import Rng
from mpc.provisioning.recipient import Recipient
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share
from mpc.threshold_rsa.shares import KeyShare, split

MODULUS_BITS = (2048, 3072, 4096)


@dataclass(frozen=True, slots=True)
class DealingTerms:
    """What all keys of a ceremony have in common. `not_after`: Unix seconds, or None."""

    ceremony_id: bytes
    rp_id: str
    not_after: int | None
    server: Recipient


@dataclass(frozen=True, slots=True)
class SealedKey:
    """What remains of a dealt key: its public part and the two files. Nothing here is secret."""

    key: PublicKey
    server_file: bytes
    device_file: bytes


def generate_source(bits: int) -> SourceKey:
    """A fresh key with e = 65537. ValueError for another size than 2048, 3072 or 4096."""
    if bits not in MODULUS_BITS:
        raise ValueError("bits: one of 2048, 3072, 4096")
    numbers = rsa.generate_private_key(public_exponent=PUBLIC_EXPONENT, key_size=bits).private_numbers()
    return SourceKey(numbers.public_numbers.n, numbers.public_numbers.e, numbers.d, numbers.p, numbers.q)


def deal(
    rng: Rng, source: SourceKey, terms: DealingTerms, device: Recipient, *, test_signature: bool = False
) -> SealedKey:
    """Split, check and seal one key. Raises TrialFailed; ValueError if a recipient's public key is not usable.

    test_signature: have the halves sign too, as device and server will.

    Lets go of the source before it seals; the caller must hold no other reference to it. Python cannot overwrite its
    numbers: see docs/known-weaknesses.md.
    """
    key = source.public
    device_share, server_share = split(rng, key, source.private_exponent)
    check_halves(source, device_share, server_share)
    del source
    if test_signature:
        try_halves(device_share, server_share)
    return SealedKey(
        key,
        _seal(terms, Role.SERVER, server_share, terms.server),
        _seal(terms, Role.DEVICE, device_share, device),
    )


def _seal(terms: DealingTerms, role: Role, share: KeyShare, recipient: Recipient) -> bytes:
    package = SharePackage(
        role=role,
        share=share,
        epoch=0,
        rp_id=terms.rp_id,
        not_after=terms.not_after,
        ceremony_id=terms.ceremony_id,
    )
    return seal_share(package, recipient.public_key, recipient.id)
