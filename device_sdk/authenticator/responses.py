"""RegistrationResponseJSON and AuthenticationResponseJSON (WebAuthn Level 3, sections 5.1 and 5.2)."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_sdk.authenticator.client_data import ClientData
from mpc.login.user_verification import VerificationMethod
from mpc.primitives import base64url


def registration_response(
    *,
    credential_id: bytes,
    client_data: ClientData,
    authenticator_data: bytes,
    attestation_object: bytes,
    algorithm: int,
    modulus: int,
    exponent: int,
    discoverable: bool | None,
    uvm: VerificationMethod | None = None,
) -> dict[str, Any]:
    """The JSON form of a new credential, for the relying party.

    `discoverable` is reported as credProps.rk, `uvm` as it stands in the authenticator data; None where the relying
    party did not ask for it, or, of uvm, where there is nothing true to tell.
    """
    extension_results = _uvm_results(uvm)
    if discoverable is not None:
        extension_results["credProps"] = {"rk": discoverable}
    response = {
        "clientDataJSON": base64url.encode(client_data.json),
        "attestationObject": base64url.encode(attestation_object),
        "authenticatorData": base64url.encode(authenticator_data),
        "transports": ["internal"],
        "publicKeyAlgorithm": algorithm,
        "publicKey": base64url.encode(_subject_public_key_info(modulus, exponent)),
    }
    return _credential(credential_id, response, extension_results)


def authentication_response(
    *,
    credential_id: bytes,
    client_data: ClientData,
    authenticator_data: bytes,
    signature: bytes,
    user_handle: bytes | None,
    uvm: VerificationMethod | None = None,
) -> dict[str, Any]:
    """The JSON form of an assertion. `user_handle`: of a discoverable credential, else None. `uvm`: as above."""
    response = {
        "clientDataJSON": base64url.encode(client_data.json),
        "authenticatorData": base64url.encode(authenticator_data),
        "signature": base64url.encode(signature),
    }
    if user_handle is not None:
        response["userHandle"] = base64url.encode(user_handle)
    return _credential(credential_id, response, _uvm_results(uvm))


def _uvm_results(uvm: VerificationMethod | None) -> dict[str, Any]:
    return {} if uvm is None else {"uvm": [uvm.as_list()]}


def _credential(credential_id: bytes, response: dict[str, Any], extension_results: dict[str, Any]) -> dict[str, Any]:
    spelt = base64url.encode(credential_id)
    return {
        "id": spelt,
        "rawId": spelt,
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": extension_results,
        "response": response,
    }


def _subject_public_key_info(modulus: int, exponent: int) -> bytes:
    key = RSAPublicNumbers(exponent, modulus).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
