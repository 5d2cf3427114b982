"""The server's attestation of a new credential, sealed so that only a match and the joint private key open it.

    server:  r uniform from [2, N−2],  c = r^e,  p2 = c^d2                                        (mod N)
             inner = AES-256-GCM under HKDF(r) of the statement
             box   = AES-256-GCM under a key that follows from the accept label, of c ‖ p2 ‖ inner
    device:  r = c^d1 · p2, and checks r^e = c

That is RSA-KEM (RFC 5990) with the private exponent in two shares. The share check of message 1 would not do alone: it
shows EM^d1·e, which whoever knows d2 computes without d1, and a device that chose d2 itself knows it. It could have
somebody else's modulus attested as its own. Here a statement about a key for which d1 + d2 is not the private exponent
opens for nobody.

The device learns nothing of d2: p2 = r·c^-d1 follows from what it holds anyway. The server learns nothing of d1: r
stays on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from mpc.errors import Blame, DecodeError, ProtocolAbort
from mpc.login.session import AEAD_TAG_BYTES, OutputKeys, derived_key
from mpc.parameters import MAX_MODULUS_BITS, PROTOCOL_VERSION
from mpc.primitives import codec, modular
from mpc.primitives.rng import Rng
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare
from mpc.threshold_rsa.signing import combine, partial_signature

MAX_CERTIFICATE_BYTES = 2048
MAX_SIGNATURE_BYTES = 72
"""Of an ECDSA signature over P-256 in DER."""
_STATISTICAL_BYTES = 16  # a random number this much longer than N is uniform modulo N up to 2^-128
_NONCE = bytes(12)  # each key seals one message


@dataclass(frozen=True, slots=True)
class AttestationStatement:
    """`signature`: ES256 in DER over authenticatorData ‖ client data hash, by the key in `certificate` (DER)."""

    certificate: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def encode(self) -> bytes:
        values = {"v": PROTOCOL_VERSION, "certificate": self.certificate, "signature": self.signature}
        return codec.encode(values)

    @classmethod
    def decode(cls, data: bytes) -> AttestationStatement:
        """Raises DecodeError naming the field."""
        with codec.reading(data, what="attestation", version=PROTOCOL_VERSION) as fields:
            return cls(
                certificate=fields.bytes("certificate", at_least=1, at_most=MAX_CERTIFICATE_BYTES),
                signature=fields.bytes("signature", at_least=8, at_most=MAX_SIGNATURE_BYTES),
            )

    def signs(self, message: bytes) -> bool:
        """Whether the signature is the certificate's, over this message. False also for a certificate of no use."""
        try:
            key = x509.load_der_x509_certificate(self.certificate).public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
                return False
            key.verify(self.signature, message, ec.ECDSA(SHA256()))
        except Exception:  # the library parses foreign bytes, and has errors that are of no one family
            return False
        return True


MAX_BOX_BYTES = (
    2 * (MAX_MODULUS_BITS // 8)
    + len(AttestationStatement(bytes(MAX_CERTIFICATE_BYTES), bytes(MAX_SIGNATURE_BYTES)).encode())
    + 2 * AEAD_TAG_BYTES
)


def seal_statement(rng: Rng, keys: OutputKeys, share: KeyShare, statement: AttestationStatement) -> bytes:
    """The box, by the server. share: d2."""
    key = share.key
    secret = _random_below(rng, key)
    challenge = modular.power(secret, key.exponent, key.modulus)
    partial = partial_signature(share, challenge)
    inner = AESGCM(_inner_key(key, secret, keys.sid)).encrypt(_NONCE, statement.encode(), keys.sid)
    plain = _octets(key, challenge) + _octets(key, partial) + inner
    return AESGCM(keys.attestation_key).encrypt(_NONCE, plain, keys.sid)


def open_statement(keys: OutputKeys, share: KeyShare, box: bytes, signed_message: bytes) -> AttestationStatement:
    """The statement, by the device. share: d1.

    Raises ProtocolAbort("attestation", server) unless the box opens and its signature is over `signed_message`.
    """
    key, size = share.key, share.key.size_bytes
    try:
        plain = AESGCM(keys.attestation_key).decrypt(_NONCE, box, keys.sid)
        challenge, partial = (int.from_bytes(plain[at : at + size], "big") for at in (0, size))
        opened = combine(key, challenge, partial_signature(share, challenge), partial)
        secret = int.from_bytes(opened, "big")
        inner = AESGCM(_inner_key(key, secret, keys.sid)).decrypt(_NONCE, plain[2 * size :], keys.sid)
        statement = AttestationStatement.decode(inner)
    except (InvalidTag, DecodeError, ProtocolAbort):
        raise ProtocolAbort("attestation", Blame.SERVER) from None
    if not statement.signs(signed_message):
        raise ProtocolAbort("attestation", Blame.SERVER)
    return statement


def _random_below(rng: Rng, key: PublicKey) -> int:
    drawn = int.from_bytes(rng.bytes(key.size_bytes + _STATISTICAL_BYTES), "big")
    return 2 + drawn % (key.modulus - 3)


def _inner_key(key: PublicKey, secret: int, sid: bytes) -> bytes:
    return derived_key(_octets(key, secret), sid, b"attested")


def _octets(key: PublicKey, value: int) -> bytes:
    return value.to_bytes(key.size_bytes, "big")
