"""The messages of a template rotation: fresh base OTs and a fresh template for an enrolment that keeps its credentials.

Two requests, as in enrolment, under the operator's code, and a third that settles what a lost answer left open. Unlike
enrolment, the second request is never stored by the device: beside the device's new share it would be the template. So
a device that lost the answer does not say it again but asks, and the asking ends a rotation that is not finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.login.enrolment_messages import MAX_CODE_BYTES
from mpc.login.messages import ID_BYTES, MAX_INDEX
from mpc.login.template import TemplateShare
from mpc.ot.base_ot import RECEIVER_MESSAGE_BYTES, SENDER_MESSAGE_BYTES
from mpc.parameters import PROTOCOL_VERSION
from mpc.primitives import codec
from mpc.primitives.hashing import tagged_hash


def rotation_challenge(enrolment_id: bytes, base_ot_id: bytes) -> bytes:
    """The 32 bytes that stand for the client data hash in the login that shows the match for a rotation.

    base_ot_id: of the offer, so that a login shows the match for one rotation only. No client data have this hash, so
    the joint signature over it is good at no relying party.
    """
    return tagged_hash("tandem rotation v1", enrolment_id, base_ot_id)


@dataclass(frozen=True, slots=True)
class RotationStart:
    """Device → server: the operator's code, and the epoch the device is at. No confirmation may be outstanding."""

    enrolment_id: bytes
    code: str = field(repr=False)
    epoch: int

    def encode(self) -> bytes:
        return codec.encode(
            {"v": PROTOCOL_VERSION, "enrolment_id": self.enrolment_id, "code": self.code, "epoch": self.epoch}
        )

    @classmethod
    def decode(cls, body: bytes) -> RotationStart:
        with codec.reading(body, what="rotation_start", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                code=fields.text("code", at_most=MAX_CODE_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
            )


@dataclass(frozen=True, slots=True)
class RotationOffer:
    """Server → device: the receiver's base-OT message, the current epoch, and whether a match must be shown."""

    enrolment_id: bytes
    base_ot_id: bytes
    receiver_message: bytes
    epoch: int
    match: bool

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "base_ot_id": self.base_ot_id,
                "receiver_message": self.receiver_message,
                "epoch": self.epoch,
                "match": self.match,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> RotationOffer:
        with codec.reading(body, what="rotation_offer", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
                receiver_message=fields.bytes("receiver_message", length=RECEIVER_MESSAGE_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                match=fields.boolean("match"),
            )


@dataclass(frozen=True, slots=True)
class RotationFinish:
    """Device → server: the sender's base-OT message and the server's share of the new templates.

    epoch: the one that the rotation ends; it is answered with `Accepted` of the next one. ot_index: the last index that
    the device has used, so that none of its logins that are still on their way is taken for a copy's.
    """

    enrolment_id: bytes
    base_ot_id: bytes
    code: str = field(repr=False)
    epoch: int
    ot_index: int
    sender_message: bytes
    share: TemplateShare = field(repr=False)

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "base_ot_id": self.base_ot_id,
                "code": self.code,
                "epoch": self.epoch,
                "ot_index": self.ot_index,
                "sender_message": self.sender_message,
                **self.share.as_map(),
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> RotationFinish:
        with codec.reading(body, what="rotation_finish", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
                code=fields.text("code", at_most=MAX_CODE_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                ot_index=fields.uint("ot_index", at_most=MAX_INDEX),
                sender_message=fields.bytes("sender_message", length=SENDER_MESSAGE_BYTES),
                share=TemplateShare.from_fields(fields),
            )


@dataclass(frozen=True, slots=True)
class RotationSettle:
    """Device → server: was the rotation with this base OT finished? If not, it never will be. Safe to repeat."""

    enrolment_id: bytes
    base_ot_id: bytes

    def encode(self) -> bytes:
        return codec.encode({"v": PROTOCOL_VERSION, "enrolment_id": self.enrolment_id, "base_ot_id": self.base_ot_id})

    @classmethod
    def decode(cls, body: bytes) -> RotationSettle:
        with codec.reading(body, what="rotation_settle", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
            )


@dataclass(frozen=True, slots=True)
class RotationSettled:
    """Server → device: whether the new template is in place."""

    done: bool

    def encode(self) -> bytes:
        return codec.encode({"v": PROTOCOL_VERSION, "done": self.done})

    @classmethod
    def decode(cls, body: bytes) -> RotationSettled:
        with codec.reading(body, what="rotation_settled", version=PROTOCOL_VERSION) as fields:
            return cls(done=fields.boolean("done"))
