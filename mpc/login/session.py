"""What both sides derive from messages 1 and 2: the session id, output tags, sealing and confirmation keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mpc.errors import Blame, ProtocolAbort
from mpc.login.messages import OUTPUT_TAG_BYTES, TOKEN_BYTES
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.public_key import PublicKey

RHO_BYTES = 32
AEAD_TAG_BYTES = 16


def session_id(
    *,
    message_1: bytes,
    server_id: str,
    profile_digest: bytes,
    key: PublicKey,
    server_nonce: bytes,
    server_ephemeral: bytes,
) -> bytes:
    """sid: 32 bytes over the whole of message 1, both parties, profile, key, and the server's fresh values."""
    return tagged_hash(
        "tandem sid v1",
        hashlib.sha256(message_1).digest(),
        server_id.encode("utf-8"),
        profile_digest,
        key.digest,
        server_nonce,
        server_ephemeral,
    )


def output_tag(accepted: int, sid: bytes, label: bytes) -> bytes:
    """Tells the evaluator which output its label stands for; 16 bytes."""
    return tagged_hash("tandem out v1", bytes([accepted]), sid, label)[:OUTPUT_TAG_BYTES]


def exchange(secret: X25519PrivateKey, received_public: bytes, blame: Blame) -> bytes:
    """X25519. Raises ProtocolAbort("invalid_point") for a point of small order (all-zero result)."""
    try:
        return secret.exchange(X25519PublicKey.from_public_bytes(received_public))
    except ValueError:
        raise ProtocolAbort("invalid_point", blame) from None


@dataclass(frozen=True, slots=True)
class OutputKeys(NeverPickled):
    """Keys that follow from the accept label and the ephemeral exchange.

    The label alone would do for secrecy towards a device that does not match. The exchange is added so that
    a copied device that merely listens cannot open the answer and follow the refreshes.
    """

    seal_key: bytes = field(repr=False)
    token: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    sid: bytes

    @classmethod
    def derive(cls, sid: bytes, accept_label: bytes, shared: bytes) -> OutputKeys:
        material = accept_label + shared
        seal, confirm, attest = (derived_key(material, sid, use) for use in (b"seal", b"confirm", b"attest"))
        return cls(seal, confirm, attest, sid)

    def seal(self, partial_signature: bytes, rho: bytes) -> bytes:
        """AES-256-GCM of s2 ‖ ρ. The nonce is zero: a key seals one message only, its sid is fresh."""
        return AESGCM(self.seal_key).encrypt(bytes(12), partial_signature + rho, self.sid)

    def open(self, sealed: bytes) -> tuple[bytes, bytes]:
        """(s2, ρ). Raises ProtocolAbort("sealed_box", server)."""
        try:
            plain = AESGCM(self.seal_key).decrypt(bytes(12), sealed, self.sid)
        except InvalidTag:
            raise ProtocolAbort("sealed_box", Blame.SERVER) from None
        return plain[:-RHO_BYTES], plain[-RHO_BYTES:]


def sealed_bytes(key: PublicKey) -> int:
    """Length of the sealed box for this modulus."""
    return key.size_bytes + RHO_BYTES + AEAD_TAG_BYTES


def derived_key(material: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 with the info `tandem INFO v1`; 32 bytes."""
    return HKDF(algorithm=SHA256(), length=TOKEN_BYTES, salt=salt, info=b"tandem " + info + b" v1").derive(material)
