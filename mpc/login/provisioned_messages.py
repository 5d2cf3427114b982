"""The messages about a provisioned key: the device shows that its half fits, and later registers with it.

A provisioned key's credential id is its key id (the RFC 7638 thumbprint, 32 bytes).

The proof that the halves fit is the share check of a login (`mpc.threshold_rsa.signing`) over a statement that is
nothing but this: neither partial signature is ever sent, and together they would sign no challenge of anybody.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpc.login.authenticator_data import ALGORITHMS
from mpc.login.messages import ID_BYTES
from mpc.parameters import PROTOCOL_VERSION
from mpc.primitives import codec
from mpc.primitives.hashing import tagged_hash
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.share_package import KEY_ID_BYTES
from mpc.threshold_rsa.shares import KeyShare
from mpc.threshold_rsa.signing import TAG_BYTES, partial_signature, share_tag, share_tag_is_valid


@dataclass(frozen=True, slots=True)
class PairShares:
    """Device → server: this enrolment holds the other half of that key. Safe to repeat."""

    enrolment_id: bytes
    key_id: bytes
    proof: bytes

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "key_id": self.key_id,
                "proof": self.proof,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> PairShares:
        with codec.reading(body, what="pair_shares", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                key_id=fields.bytes("key_id", length=KEY_ID_BYTES),
                proof=fields.bytes("proof", length=TAG_BYTES),
            )


@dataclass(frozen=True, slots=True)
class AdoptKey:
    """Device → server: make the provisioned key a provisional credential with this algorithm. Safe to repeat.

    As with a key of the device's own, only the first joint signature makes the credential count.
    """

    enrolment_id: bytes
    key_id: bytes
    algorithm: int

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "key_id": self.key_id,
                "algorithm": self.algorithm,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> AdoptKey:
        with codec.reading(body, what="adopt_key", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                key_id=fields.bytes("key_id", length=KEY_ID_BYTES),
                algorithm=fields.integer("algorithm", one_of=ALGORITHMS),
            )


@dataclass(frozen=True, slots=True)
class PairingStatement:
    """What each side knows of a key before the halves are compared. If they differ in anything, no proof fits.

    The device has the last three from its sealed half, and the server from the ceremony's signed manifest. A proof
    that fits tells the device that the server holds the other half on these terms, and not who dealt the key: anybody
    can seal a half to the device. For that it must be given the manifest. not_after: Unix seconds, or None.
    """

    server_id: str
    enrolment_id: bytes
    rp_id: str
    not_after: int | None
    ceremony_id: bytes

    def digest(self, key_id: bytes) -> bytes:
        """32 bytes; with the share's key id they are what is signed by neither side alone."""
        not_after = b"" if self.not_after is None else self.not_after.to_bytes(8, "big")
        return tagged_hash(
            "tandem pair v1",
            key_id,
            self.server_id.encode("utf-8"),
            self.enrolment_id,
            self.rp_id.encode("utf-8"),
            not_after,
            self.ceremony_id,
        )


def pairing_proof(device_share: KeyShare, statement: PairingStatement) -> bytes:
    """By the device: hash of the statement and s1^e.

    Raises ProtocolAbort("message_not_invertible") for a modulus with small factors, which no dealer makes but which a
    stranger can seal to a known recipient.
    """
    digest, encoded = _encoded(device_share, statement)
    return share_tag(device_share.key, digest, partial_signature(device_share, encoded))


def pairing_proof_is_valid(server_share: KeyShare, statement: PairingStatement, received: bytes) -> bool:
    """By the server. Constant-time comparison; False for the half of another key, of another epoch or other terms."""
    digest, encoded = _encoded(server_share, statement)
    partial = partial_signature(server_share, encoded)
    return share_tag_is_valid(server_share.key, digest, encoded, partial, received)


def _encoded(share: KeyShare, statement: PairingStatement) -> tuple[bytes, int]:
    """(the statement's digest, its encoding for this key)."""
    digest = statement.digest(share.key.key_id)
    return digest, encode_message(Algorithm.RS256, digest, None, share.key.bits)
