"""How a key and this device's share of it stand in the vault: modulus, exponent, key_share.

The exponent stands there only where it is not 65537, so a vault of an older release reads the same and one value
has one encoding.
"""

from __future__ import annotations

from mpc.errors import DecodeError
from mpc.parameters import MAX_EXPONENT, MAX_MODULUS_BITS, MIN_MODULUS_BITS, PUBLIC_EXPONENT
from mpc.primitives.codec import Fields
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, share_bytes


def key_share_map(share: KeyShare) -> dict[str, object]:
    """The fields of one share; secret."""
    values: dict[str, object] = {"modulus": share.key.modulus_bytes, "key_share": share.to_bytes()}
    if share.key.exponent != PUBLIC_EXPONENT:
        values["exponent"] = share.key.exponent
    return values


def read_key_share(fields: Fields) -> KeyShare:
    """Raises DecodeError, or ValueError for a modulus or an exponent that no key has."""
    modulus = fields.bytes("modulus", at_least=MIN_MODULUS_BITS // 8, at_most=MAX_MODULUS_BITS // 8)
    exponent = PUBLIC_EXPONENT
    if fields.has("exponent"):
        exponent = fields.uint("exponent", at_most=MAX_EXPONENT)
        if exponent == PUBLIC_EXPONENT:
            raise DecodeError("exponent", "is left out where it is 65537")
    key = PublicKey.from_bytes(modulus, exponent)
    return KeyShare.from_bytes(key, fields.bytes("key_share", length=share_bytes(key)))
