"""Partial signatures, their combination, and the share check that needs no signature.

    s1 = EM^d1 = (EM^-1)^|d1|,   s2 = EM^d2,   s = s1·s2,   s^e = EM          (all mod N)

The device proves that its share fits without sending s1: it sends a hash of y = s1^e. An honest s1 has
y = EM·s2^-e, which the server computes alone. From y nobody gets s1: that is the RSA problem.
"""

from __future__ import annotations

import hmac

from mpc.errors import Blame, ProtocolAbort
from mpc.primitives import modular
from mpc.primitives.hashing import tagged_hash
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare

TAG_BYTES = 32


def partial_signature(share: KeyShare, encoded_message: int) -> int:
    """EM^share mod N. A negative share raises the inverse of EM, which is public."""
    modulus = share.key.modulus
    base: int | None = encoded_message
    if share.value < 0:
        base = modular.public_inverse(encoded_message, modulus)
    if base is None:
        # EM shares a factor with N: whoever made N chose it so, and no honest key gets here.
        raise ProtocolAbort("message_not_invertible", Blame.DEVICE)
    return modular.power(base, abs(share.value), modulus)


def share_tag(key: PublicKey, transcript: bytes, device_partial: int) -> bytes:
    """y_tag, by the device: hash of the transcript and s1^e."""
    return _tag(key, transcript, modular.power(device_partial, key.exponent, key.modulus))


def share_tag_is_valid(
    key: PublicKey, transcript: bytes, encoded_message: int, server_partial: int, received_tag: bytes
) -> bool:
    """The server's check of y_tag; constant-time comparison. False for a stale, wrong or foreign share."""
    raised = modular.power(server_partial, key.exponent, key.modulus)
    inverse = modular.public_inverse(raised, key.modulus)
    if inverse is None:
        return False
    return hmac.compare_digest(_tag(key, transcript, encoded_message * inverse % key.modulus), received_tag)


def combine(key: PublicKey, encoded_message: int, device_partial: int, server_partial: int) -> bytes:
    """The standard signature, modulus-length octets. Raises ProtocolAbort("bad_partial_signature", server).

    The device knows that its own share fits (the server's tag check passed), so a failure is the server's.
    """
    signature = device_partial * server_partial % key.modulus
    if modular.power(signature, key.exponent, key.modulus) != encoded_message:
        raise ProtocolAbort("bad_partial_signature", Blame.SERVER)
    return signature.to_bytes(key.size_bytes, "big")


def _tag(key: PublicKey, transcript: bytes, raised: int) -> bytes:
    return tagged_hash("tandem share v1", transcript, raised.to_bytes(key.size_bytes, "big"))
