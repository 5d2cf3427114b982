"""Extension outputs in authenticatorData: what a device may put there, and the server lets pass.

A map in CTAP2 canonical CBOR at the end, announced by flag ED (WebAuthn Level 3, sections 6.1 and 9). The server reads
none: it knows every output that may stand there, and compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from fido2 import cbor

from mpc.login.user_verification import Method, VerificationMethod

_CRED_PROTECT = "credProtect"
_UVM = "uvm"


class CredProtect(IntEnum):
    """What a credential may be used for, and found by, before the user is verified (CTAP 2.1, section 12.1)."""

    UV_OPTIONAL = 1
    UV_OPTIONAL_WITH_ID_LIST = 2
    """Unverified it is found by its id only."""
    UV_REQUIRED = 3
    """Unverified it is not found at all."""


@dataclass(frozen=True, slots=True)
class ExtensionOutputs:
    """`uvm`: how the user was verified, where that was asked for and can be told.

    `cred_protect`: the level of a new credential, where the relying party set one; in a registration only.
    """

    uvm: VerificationMethod | None = None
    cred_protect: CredProtect | None = None

    def encode(self) -> bytes:
        """The map; nothing at all where it would be empty, and flag ED is then not set."""
        outputs: dict[str, object] = {}
        if self.uvm is not None:
            outputs[_UVM] = [self.uvm.as_list()]
        if self.cred_protect is not None:
            outputs[_CRED_PROTECT] = int(self.cred_protect)
        return cbor.encode(outputs) if outputs else b""


def possible_outputs(uvm: VerificationMethod | None, *, registration: bool) -> Iterator[ExtensionOutputs]:
    """All that may stand in authenticator data, the usual first: none.

    uvm: the one true method, None where there is none to tell.
    """
    for told in (None,) if uvm is None else (None, uvm):
        yield ExtensionOutputs(told)
        if registration:
            for level in CredProtect:
                yield ExtensionOutputs(told, level)


MAX_OUTPUTS_BYTES = len(
    ExtensionOutputs(VerificationMethod(Method.EYEPRINT_INTERNAL), CredProtect.UV_REQUIRED).encode()
)
