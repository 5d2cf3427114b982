"""Attestation statements (WebAuthn Level 3, sections 6.5.4, 8.2 and 8.7), and the object that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fido2 import cbor

_ES256 = -7


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement in its format. CTAP sends the two apart, WebAuthn in one object with the authenticator data."""

    fmt: str
    statement: Mapping[str, object]

    def object(self, authenticator_data: bytes) -> bytes:
        """The attestation object in CTAP2 canonical CBOR."""
        return cbor.encode({"fmt": self.fmt, "attStmt": self.statement, "authData": authenticator_data})


def none_attestation() -> Attestation:
    """States nothing about the authenticator's make."""
    return Attestation("none", MappingProxyType({}))


def packed_self_attestation(algorithm: int, signature: bytes) -> Attestation:
    """Packed self attestation: exactly {alg, sig}, made with the credential's own key, no certificate.

    `algorithm` is the credential's COSE algorithm; `signature` is over authenticator data ‖ client data hash.
    """
    return Attestation("packed", MappingProxyType({"alg": algorithm, "sig": signature}))


def packed_attestation(certificate: bytes, signature: bytes) -> Attestation:
    """Packed attestation by the auth server's attestation key, which `certificate` (DER) is of.

    `signature`: ES256 in DER, over authenticator data ‖ client data hash. The root is left out, as the relying party
    must have it from elsewhere.
    """
    return Attestation("packed", MappingProxyType({"alg": _ES256, "sig": signature, "x5c": [certificate]}))
