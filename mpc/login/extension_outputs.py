"""Extension outputs in the authenticatorData of a registration: what a device may put there, and the server lets pass.

A map in CTAP2 canonical CBOR after the COSE key, announced by flag ED (WebAuthn Level 3, sections 6.1 and 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from fido2 import cbor

from mpc.primitives import codec

_CRED_PROTECT = "credProtect"


class CredProtect(IntEnum):
    """What a credential may be used for, and found by, before the user is verified (CTAP 2.1, section 12.1)."""

    UV_OPTIONAL = 1
    UV_OPTIONAL_WITH_ID_LIST = 2
    """Unverified it is found by its id only."""
    UV_REQUIRED = 3
    """Unverified it is not found at all."""


@dataclass(frozen=True, slots=True)
class RegistrationOutputs:
    """`cred_protect`: the level of the new credential, where the relying party set one."""

    cred_protect: CredProtect | None = None

    def encode(self) -> bytes:
        """The map; nothing at all where it would be empty, and flag ED is then not set."""
        return b"" if self.cred_protect is None else cbor.encode({_CRED_PROTECT: int(self.cred_protect)})

    @classmethod
    def decode(cls, data: bytes) -> RegistrationOutputs:
        """Raises DecodeError for what `encode` never gives."""
        if not data:
            return cls()
        fields = codec.decode(data, what="extensions")
        level = CredProtect(fields.integer(_CRED_PROTECT, one_of=tuple(CredProtect)))
        fields.done()
        return cls(level)


MAX_OUTPUTS_BYTES = len(RegistrationOutputs(CredProtect.UV_REQUIRED).encode())
