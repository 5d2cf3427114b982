"""The template as two shares over GF(2), and its refresh.

    t = t1 ⊕ t2, t2 uniform;   a mask, where there is one, is shared alike.
All templates of an enrolment are concatenated, packed LSB-first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.errors import DecodeError
from mpc.login.profile import Profile
from mpc.parameters import MAX_CODE_BITS, MAX_TEMPLATES
from mpc.primitives import codec
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

    def as_map(self) -> dict[str, object]:
        """As fields of a message."""
        return {"codes": self.codes, "masks": self.masks}

    @classmethod
    def from_fields(cls, fields: codec.Fields, *, templates: int = MAX_TEMPLATES) -> TemplateShare:
        """Takes the fields of a message; `check_fits` then compares their lengths. templates: how many at most."""
        most = MAX_CODE_BITS * templates // 8
        return cls(codes=fields.bytes("codes", at_most=most), masks=fields.bytes("masks", at_most=most))

    def check_fits(self, profile: Profile, message: str) -> None:
        """Raises DecodeError naming the message's field unless the share has the sizes of the profile."""
        if len(self.codes) != profile.template_bytes:
            raise DecodeError(f"{message}.codes", f"must have {profile.template_bytes} bytes for this profile")
        if len(self.masks) != profile.mask_bytes:
            raise DecodeError(f"{message}.masks", f"must have {profile.mask_bytes} bytes for this profile")

    def with_template(self, added: TemplateShare) -> TemplateShare:
        """The share of one more template, as the last one."""
        return TemplateShare(self.codes + added.codes, self.masks + added.masks)

    def without_template(self, position: int, profile: Profile) -> TemplateShare:
        """The share without the template at `position`, from 0. profile: of the share as it is."""
        if not 0 <= position < profile.templates:
            raise ValueError("there is no template at that position")
        size = profile.code_bits // 8
        before, after = position * size, (position + 1) * size
        return TemplateShare(
            self.codes[:before] + self.codes[after:],
            self.masks[:before] + self.masks[after:],
        )


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
