"""The messages that change which templates an enrolment has: one more, or one less, under a match with one it has.

The device announces the change, and the login that shows the match is over the hash of that announcement. Confirming
the login puts the change in place, at both sides with the same message, so there is nothing to settle: a login that is
never confirmed has changed nothing. The device never stores the announcement of a new template: beside its own share
it would be the template.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.login.enrolment_messages import MAX_CODE_BYTES
from mpc.login.messages import ID_BYTES, MAX_INDEX
from mpc.login.template import TemplateShare
from mpc.parameters import MAX_TEMPLATES, PROTOCOL_VERSION
from mpc.primitives import codec
from mpc.primitives.hashing import tagged_hash

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class AddTemplate:
    """Device → server: the server's share of one more template, which becomes the last one.

    epoch: the one that the login's confirmation will end. profile_digest: of the profile for the new number of
    templates, so that both sides mean the same threshold. code: the operator's, where the server asks for one.
    """

    enrolment_id: bytes
    epoch: int
    profile_digest: bytes
    share: TemplateShare = field(repr=False)
    code: str | None = field(default=None, repr=False)

    @property
    def challenge(self) -> bytes:
        """The 32 bytes that stand for the client data hash in the login that shows the match.

        Over the share itself: nobody can put another one in its place after the match. No client data have this hash,
        so the joint signature over it is good at no relying party.
        """
        return tagged_hash(
            "tandem add template v1",
            self.enrolment_id,
            self.epoch.to_bytes(8, "big"),
            self.profile_digest,
            self.share.codes,
            self.share.masks,
        )

    def encode(self) -> bytes:
        values: dict[str, object] = {
            "v": PROTOCOL_VERSION,
            "enrolment_id": self.enrolment_id,
            "epoch": self.epoch,
            "profile_digest": self.profile_digest,
            **self.share.as_map(),
        }
        if self.code is not None:
            values["code"] = self.code
        return codec.encode(values)

    @classmethod
    def decode(cls, body: bytes) -> AddTemplate:
        with codec.reading(body, what="add_template", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                profile_digest=fields.bytes("profile_digest", length=_DIGEST_BYTES),
                share=TemplateShare.from_fields(fields, templates=1),
                code=fields.text("code", at_most=MAX_CODE_BYTES) if fields.has("code") else None,
            )


@dataclass(frozen=True, slots=True)
class RemoveTemplate:
    """Device → server: the template at this position, from 0 in the order of adding, is to go. Otherwise the same."""

    enrolment_id: bytes
    epoch: int
    profile_digest: bytes
    position: int

    @property
    def challenge(self) -> bytes:
        """As for `AddTemplate`."""
        return tagged_hash(
            "tandem remove template v1",
            self.enrolment_id,
            self.epoch.to_bytes(8, "big"),
            self.profile_digest,
            bytes([self.position]),
        )

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "enrolment_id": self.enrolment_id,
                "epoch": self.epoch,
                "profile_digest": self.profile_digest,
                "position": self.position,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> RemoveTemplate:
        with codec.reading(body, what="remove_template", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                profile_digest=fields.bytes("profile_digest", length=_DIGEST_BYTES),
                position=fields.uint("position", at_most=MAX_TEMPLATES - 1),
            )
