"""The messages of enrolment, of adding a credential, and of recovery after a quarantine.

Both enrolment and recovery take two requests: the first brings the server's base-OT message back, the second
carries the device's. Each repeats the one-time code, which is spent only when the second succeeds, so a lost
answer costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mpc.login.authenticator_data import ALGORITHMS, MAX_CREDENTIAL_ID_BYTES, MIN_CREDENTIAL_ID_BYTES
from mpc.login.messages import ID_BYTES, MAX_INDEX, Confirmation
from mpc.login.template import TemplateShare
from mpc.ot.base_ot import RECEIVER_MESSAGE_BYTES, SENDER_MESSAGE_BYTES
from mpc.parameters import (
    MAX_MODULUS_BITS,
    MIN_MODULUS_BITS,
    PROTOCOL_VERSION,
    PUBLIC_EXPONENT,
)
from mpc.primitives import codec

PUBLIC_POINT_BYTES = 65
MAX_CODE_BYTES = 64
MAX_NAME_BYTES = 40
MAX_RP_ID_BYTES = 253
MAX_CREDENTIALS = 10_000


@dataclass(frozen=True, slots=True)
class EnrolmentStart:
    """Device → server: which profile, which request-signing key (uncompressed P-256 point), which one-time code."""

    profile_name: str
    profile_digest: bytes
    signing_key: bytes
    code: str = field(repr=False)

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "profile": self.profile_name,
                "profile_digest": self.profile_digest,
                "signing_key": self.signing_key,
                "code": self.code,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> EnrolmentStart:
        with codec.reading(body, what="enrolment_start", version=PROTOCOL_VERSION) as fields:
            return cls(
                profile_name=fields.text("profile", at_most=MAX_NAME_BYTES),
                profile_digest=fields.bytes("profile_digest", length=32),
                signing_key=fields.bytes("signing_key", length=PUBLIC_POINT_BYTES),
                code=fields.text("code", at_most=MAX_CODE_BYTES),
            )


@dataclass(frozen=True, slots=True)
class BaseOtOffer:
    """Server → device: ids and the receiver's base-OT message. In recovery, also the epoch that is current."""

    enrolment_id: bytes
    base_ot_id: bytes
    server_id: str
    receiver_message: bytes
    epoch: int = 0

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "base_ot_id": self.base_ot_id,
                "server_id": self.server_id,
                "receiver_message": self.receiver_message,
                "epoch": self.epoch,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> BaseOtOffer:
        with codec.reading(body, what="base_ot_offer", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
                server_id=fields.text("server_id", at_most=MAX_RP_ID_BYTES),
                receiver_message=fields.bytes("receiver_message", length=RECEIVER_MESSAGE_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
            )


@dataclass(frozen=True, slots=True)
class EnrolmentFinish:
    """Device → server: the sender's base-OT message and the server's share of all templates."""

    enrolment_id: bytes
    base_ot_id: bytes
    code: str = field(repr=False)
    sender_message: bytes
    share: TemplateShare = field(repr=False)

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "base_ot_id": self.base_ot_id,
                "code": self.code,
                "sender_message": self.sender_message,
                **self.share.as_map(),
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> EnrolmentFinish:
        with codec.reading(body, what="enrolment_finish", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
                code=fields.text("code", at_most=MAX_CODE_BYTES),
                sender_message=fields.bytes("sender_message", length=SENDER_MESSAGE_BYTES),
                share=TemplateShare.from_fields(fields),
            )


@dataclass(frozen=True, slots=True)
class AddCredential:
    """Device → server: a new credential's public key and the server's share of its private exponent.

    The credential stays provisional until its first joint signature, which proves match and key together.
    """

    enrolment_id: bytes
    credential_id: bytes
    rp_id: str
    algorithm: int
    modulus: bytes
    exponent: int
    key_share: bytes = field(repr=False)

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "credential_id": self.credential_id,
                "rp_id": self.rp_id,
                "algorithm": self.algorithm,
                "modulus": self.modulus,
                "exponent": self.exponent,
                "key_share": self.key_share,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> AddCredential:
        with codec.reading(body, what="add_credential", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                credential_id=fields.bytes(
                    "credential_id", at_least=MIN_CREDENTIAL_ID_BYTES, at_most=MAX_CREDENTIAL_ID_BYTES
                ),
                rp_id=fields.text("rp_id", at_most=MAX_RP_ID_BYTES),
                algorithm=fields.integer("algorithm", one_of=ALGORITHMS),
                modulus=fields.bytes("modulus", at_least=MIN_MODULUS_BITS // 8, at_most=MAX_MODULUS_BITS // 8),
                exponent=fields.integer("exponent", one_of=(PUBLIC_EXPONENT,)),
                key_share=fields.bytes("key_share", at_most=MAX_MODULUS_BITS // 4),
            )


@dataclass(frozen=True, slots=True)
class RevokeCredential:
    """Device → server: forget the share of this credential. Irreversible, and safe to repeat."""

    enrolment_id: bytes
    credential_id: bytes

    def encode(self) -> bytes:
        return codec.encode(
            {"v": PROTOCOL_VERSION, "enrolment_id": self.enrolment_id, "credential_id": self.credential_id}
        )

    @classmethod
    def decode(cls, body: bytes) -> RevokeCredential:
        with codec.reading(body, what="revoke_credential", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                credential_id=fields.bytes(
                    "credential_id", at_least=MIN_CREDENTIAL_ID_BYTES, at_most=MAX_CREDENTIAL_ID_BYTES
                ),
            )


@dataclass(frozen=True, slots=True)
class RecoveryStart:
    """Device → server, signed with the old request key: the operator's code, a new request key, the device's epoch."""

    enrolment_id: bytes
    code: str = field(repr=False)
    signing_key: bytes
    epoch: int
    confirmation: Confirmation | None = None

    def encode(self) -> bytes:
        values: dict[str, object] = {
            "v": PROTOCOL_VERSION,
            "enrolment_id": self.enrolment_id,
            "code": self.code,
            "signing_key": self.signing_key,
            "epoch": self.epoch,
        }
        if self.confirmation is not None:
            values["confirm"] = self.confirmation.as_map()
        return codec.encode(values)

    @classmethod
    def decode(cls, body: bytes) -> RecoveryStart:
        with codec.reading(body, what="recovery_start", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                code=fields.text("code", at_most=MAX_CODE_BYTES),
                signing_key=fields.bytes("signing_key", length=PUBLIC_POINT_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                confirmation=Confirmation.from_fields(fields.fields("confirm")) if fields.has("confirm") else None,
            )


@dataclass(frozen=True, slots=True)
class RecoveryFinish:
    """Device → server, signed with the *new* request key: the sender's base-OT message."""

    enrolment_id: bytes
    base_ot_id: bytes
    code: str = field(repr=False)
    sender_message: bytes

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "base_ot_id": self.base_ot_id,
                "code": self.code,
                "sender_message": self.sender_message,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> RecoveryFinish:
        with codec.reading(body, what="recovery_finish", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
                code=fields.text("code", at_most=MAX_CODE_BYTES),
                sender_message=fields.bytes("sender_message", length=SENDER_MESSAGE_BYTES),
            )


@dataclass(frozen=True, slots=True)
class Accepted:
    """Server → device, after either second request and after a change of credentials: what is current now.

    `sign_counts`: after a recovery, the last signature counter of each credential, which a copy may have moved.
    """

    epoch: int
    last_index: int
    sign_counts: tuple[tuple[bytes, int], ...] = ()

    def encode(self) -> bytes:
        values: dict[str, object] = {"v": PROTOCOL_VERSION, "epoch": self.epoch, "last_index": self.last_index}
        if self.sign_counts:
            values["sign_counts"] = [{"credential_id": key, "count": count} for key, count in self.sign_counts]
        return codec.encode(values)

    @classmethod
    def decode(cls, body: bytes) -> Accepted:
        with codec.reading(body, what="accepted", version=PROTOCOL_VERSION) as fields:
            return cls(
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                last_index=fields.uint("last_index", at_most=MAX_INDEX),
                sign_counts=tuple(_read_sign_counts(fields)) if fields.has("sign_counts") else (),
            )


def _read_sign_counts(fields: codec.Fields) -> Iterator[tuple[bytes, int]]:
    for entry in fields.each("sign_counts", at_most=MAX_CREDENTIALS):
        credential_id = entry.bytes("credential_id", at_least=MIN_CREDENTIAL_ID_BYTES, at_most=MAX_CREDENTIAL_ID_BYTES)
        yield credential_id, entry.uint("count", at_most=2**32 - 1)
        entry.done()
