"""The template as two shares over GF(2), and its refresh.

    t = t1 ⊕ t2, t2 uniform;   a mask, where there is one, is shared alike.
All templates of an enrolment are concatenated, packed LSB-first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.login.profile import Profile
from mpc.primitives.hashing import tagged_stream
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled


@dataclass(frozen=True, slots=True)
class TemplateShare(NeverPickled):
    """One side's share of all codes and, with masks, of all masks (else empty)."""

    codes: bytes = field(repr=False)
    masks: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """codes ‖ masks; the profile tells where to cut."""
        return self.codes + self.masks

    @classmethod
    def from_bytes(cls, profile: Profile, data: bytes) -> TemplateShare:
        if len(data) != profile.template_bytes + profile.mask_bytes:
            raise ValueError("a template share has the wrong length for its profile")
        return cls(data[: profile.template_bytes], data[profile.template_bytes :])


def share_template(rng: Rng, codes: bytes, masks: bytes) -> tuple[TemplateShare, TemplateShare]:
    """(device's, server's) share. The caller erases the codes and masks."""
    server = TemplateShare(rng.bytes(len(codes)), rng.bytes(len(masks)))
    return TemplateShare(xor(codes, server.codes), xor(masks, server.masks)), server


def refreshed(share: TemplateShare, session_id: bytes, rho: bytes, enrolment_id: bytes) -> TemplateShare:
    """The share after a confirmed login. Both sides add the same r_t, so t does not change."""
    stream = tagged_stream(
        "tandem refresh v1", len(share.codes) + len(share.masks), session_id, rho, b"template", enrolment_id
    )
    return TemplateShare(xor(share.codes, stream[: len(share.codes)]), xor(share.masks, stream[len(share.codes) :]))


def xor(left: bytes, right: bytes) -> bytes:
    """Bitwise sum of two byte strings of one length."""
    if len(left) != len(right):
        raise ValueError("operands of unequal length")
    return (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(len(left), "little")
