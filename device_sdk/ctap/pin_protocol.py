"""PIN/UV auth protocol two, the authenticator's side (CTAP 2.1, section 6.5.7)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicNumbers,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.status import CommandRefused, Status
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled

PIN_PROTOCOL = 2
TOKEN_BYTES = 32
_COORDINATE_BYTES = 32
_BLOCK_BYTES = 16
_KEY_TYPE_EC2, _ECDH_ES_HKDF_256, _CURVE_P256 = 2, -25, 1


@dataclass(frozen=True, slots=True)
class SharedSecret(NeverPickled):
    """What a client and this device share for one exchange: a key to encrypt with. The one for MACs has no use here."""

    aes_key: bytes = field(repr=False)

    def encrypt(self, rng: Rng, plaintext: bytes) -> bytes:
        """A fresh IV of 16 bytes, then AES-256-CBC over whole blocks."""
        if len(plaintext) % _BLOCK_BYTES:
            raise ValueError("only whole blocks are encrypted")
        iv = rng.bytes(_BLOCK_BYTES)
        encryptor = Cipher(AES(self.aes_key), CBC(iv)).encryptor()
        return iv + encryptor.update(plaintext) + encryptor.finalize()


class KeyAgreement(NeverPickled):
    """The key that clients agree with. One for as long as the device is open, or until a reset."""

    def __init__(self) -> None:
        self._key: EllipticCurvePrivateKey = generate_private_key(SECP256R1())

    def __repr__(self) -> str:
        return "KeyAgreement()"

    def public_key(self) -> dict[int, int | bytes]:
        """The COSE key of getPublicKey()."""
        point = self._key.public_key().public_numbers()
        return {
            1: _KEY_TYPE_EC2,
            3: _ECDH_ES_HKDF_256,
            -1: _CURVE_P256,
            -2: point.x.to_bytes(_COORDINATE_BYTES, "big"),
            -3: point.y.to_bytes(_COORDINATE_BYTES, "big"),
        }

    def decapsulate(self, peer: Parameters) -> SharedSecret:
        """peer: the client's COSE key. Raises CommandRefused, also for a point that is not on the curve."""
        if (peer.integer(1), peer.integer(3), peer.integer(-1)) != (_KEY_TYPE_EC2, _ECDH_ES_HKDF_256, _CURVE_P256):
            raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
        x, y = (
            int.from_bytes(peer.octets(key, at_least=_COORDINATE_BYTES, at_most=_COORDINATE_BYTES), "big")
            for key in (-2, -3)
        )
        try:
            shared = self._key.exchange(ECDH(), EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key())
        except ValueError:
            raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER) from None
        return SharedSecret(HKDF(SHA256(), 32, salt=bytes(32), info=b"CTAP2 AES key").derive(shared))


def verifies(token: bytes, message: bytes, received: bytes) -> bool:
    """Whether `received` is the HMAC-SHA-256 of the message under the token: pinUvAuthParam of this protocol."""
    return hmac.compare_digest(hmac.digest(token, message, "sha256"), received)
