"""How a person is verified, in the words of the FIDO registry: what the extension uvm tells, for the profiles it fits.

FIDO Registry of Predefined Values 2.2, sections 3.1 to 3.3. The method follows from the encoder that a profile names.
Nobody here knows what codes measure that were made elsewhere, so nothing is told of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from mpc.login.profile import Profile


class Method(IntFlag):
    """USER_VERIFY_*"""

    FACEPRINT_INTERNAL = 0x00000010
    EYEPRINT_INTERNAL = 0x00000040


KEY_PROTECTION_SOFTWARE = 0x0001
"""True of both halves of a key, and all that can be promised: a vault may be anywhere."""
MATCHER_PROTECTION_SOFTWARE = 0x0001
"""True of both sides of the circuit."""

_METHODS = (("dlib-face-v1/", Method.FACEPRINT_INTERNAL), ("openiris-", Method.EYEPRINT_INTERNAL))
"""By the beginning of the encoder's id, which is part of the profile's digest and so of every enrolment."""


@dataclass(frozen=True, slots=True)
class VerificationMethod:
    """One entry of uvm (WebAuthn Level 2, section 10.3)."""

    method: Method
    key_protection: int = KEY_PROTECTION_SOFTWARE
    matcher_protection: int = MATCHER_PROTECTION_SOFTWARE

    def as_list(self) -> list[int]:
        return [int(self.method), self.key_protection, self.matcher_protection]


def verification_method(profile: Profile) -> VerificationMethod | None:
    """What a match under this profile verifies a person by; None where the registry has no true word for it."""
    for prefix, method in _METHODS:
        if profile.encoder_id.startswith(prefix):
            return VerificationMethod(method)
    return None
