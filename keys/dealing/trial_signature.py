"""That the halves of a key sign together: by arithmetic for every key, by a test signature for imported ones."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from keys.sources.source_key import SourceKey
from mpc.errors import ProtocolAbort
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare
from mpc.threshold_rsa.signing import combine, partial_signature

# No authenticator data begins like this, so the signature, which nobody keeps anyway, fits no login.
_MESSAGE = b"tandem trial signature v1 "


class TrialFailed(Exception):
    """The halves of a key do not sign. The machine computes wrongly, or the key is not what its checks said: use
    another machine, and do not hand out anything of this run.
    """


def check_halves(source: SourceKey, device_share: KeyShare, server_share: KeyShare) -> None:
    """Raises TrialFailed unless the halves make the signature of every message.

        EM^d1 · EM^d2 = EM^(d1+d2), whose e-th power is EM for every EM  ⇔  e·(d1 + d2) ≡ 1 (mod p − 1) and (mod q − 1)

    for different primes p and q with p·q = N. So this says more than any test signature, and costs next to nothing.
    """
    total = source.exponent * (device_share.value + server_share.value)
    fits = total % (source.p - 1) == 1 and total % (source.q - 1) == 1
    if not fits or source.p == source.q or source.p * source.q != device_share.key.modulus:
        raise TrialFailed("the halves of a key do not sign together")


def try_halves(device_share: KeyShare, server_share: KeyShare) -> None:
    """Sign as device and server do, and have another library judge. Raises TrialFailed."""
    key = server_share.key
    message = _MESSAGE + key.key_id
    encoded = encode_message(Algorithm.RS256, message, None, key.bits)
    try:
        device, server = partial_signature(device_share, encoded), partial_signature(server_share, encoded)
        signature = combine(key, encoded, device, server)
        RSAPublicNumbers(key.exponent, key.modulus).public_key().verify(signature, message, PKCS1v15(), SHA256())
    except (ProtocolAbort, InvalidSignature, ValueError):
        raise TrialFailed("the halves of a key do not sign together") from None
