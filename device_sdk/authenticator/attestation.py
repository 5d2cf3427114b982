"""Attestation objects (WebAuthn Level 3, sections 6.5.4, 8.2 and 8.7) in CTAP2 canonical CBOR."""

from __future__ import annotations

from collections.abc import Mapping

from fido2 import cbor


def none_attestation(authenticator_data: bytes) -> bytes:
    """The attestation object that states nothing about the authenticator's make."""
    return _attestation_object("none", {}, authenticator_data)


def packed_self_attestation(authenticator_data: bytes, algorithm: int, signature: bytes) -> bytes:
    """Packed self attestation: exactly {alg, sig}, made with the credential's own key, no certificate.

    `algorithm` is the credential's COSE algorithm; `signature` is over authenticator_data ‖ client data hash.
    """
    return _attestation_object("packed", {"alg": algorithm, "sig": signature}, authenticator_data)


def _attestation_object(fmt: str, statement: Mapping[str, object], authenticator_data: bytes) -> bytes:
    return cbor.encode({"fmt": fmt, "attStmt": statement, "authData": authenticator_data})
