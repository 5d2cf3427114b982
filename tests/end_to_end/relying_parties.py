"""Two relying parties with independent implementations, who must agree: python-fido2 and py_webauthn."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from fido2 import cbor
from fido2.cose import PS256, RS256, CoseKey
from fido2.server import Fido2Server
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    AttestedCredentialData,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
)
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers.cose import COSEAlgorithmIdentifier


@dataclass
class RelyingParty:
    """Makes options, and believes an answer only if both libraries do."""

    rp_id: str = "shop.example"
    known: dict[bytes, tuple[AttestedCredentialData, int]] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"https://{self.rp_id}"

    def _server(self) -> Fido2Server:
        # verify_attestation None: fido2 then checks the attestation's form; its signature is checked by py_webauthn.
        return Fido2Server(
            PublicKeyCredentialRpEntity(name="Test", id=self.rp_id), verify_origin=lambda origin: origin == self.origin
        )

    def creation_options(
        self,
        *,
        user: bytes = b"user-1",
        algorithms: tuple[int, ...] = (-257,),
        attestation: str = "direct",
        resident: str = "required",
        exclude: tuple[bytes, ...] = (),
        name: str = "ann",
        **more: Any,
    ) -> dict[str, Any]:
        return {
            "rp": {"id": self.rp_id, "name": "Test"},
            "user": {"id": websafe_encode(user), "name": name, "displayName": name.title()},
            "challenge": websafe_encode(secrets.token_bytes(32)),
            "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in algorithms],
            "authenticatorSelection": {"residentKey": resident, "userVerification": "required"},
            "attestation": attestation,
            "excludeCredentials": [{"type": "public-key", "id": websafe_encode(one)} for one in exclude],
            **more,
        }

    def request_options(self, *, allow: tuple[bytes, ...] | None = None, **more: Any) -> dict[str, Any]:
        options: dict[str, Any] = {
            "rpId": self.rp_id,
            "challenge": websafe_encode(secrets.token_bytes(32)),
            "userVerification": "required",
            **more,
        }
        if allow is not None:
            options["allowCredentials"] = [{"type": "public-key", "id": websafe_encode(one)} for one in allow]
        return options

    def register(self, options: dict[str, Any], answer: dict[str, Any]) -> bytes:
        """Verify a registration with both libraries and remember it; the credential id."""
        challenge = websafe_decode(options["challenge"])
        verified = verify_registration_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=self.rp_id,
            expected_origin=self.origin,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(-257), COSEAlgorithmIdentifier(-37)],
        )
        server = self._server()
        user = PublicKeyCredentialUserEntity(name="x", id=b"x")
        _, state = server.register_begin(user, user_verification="required", challenge=challenge)
        data = server.register_complete(state, answer)
        attested = data.credential_data
        assert attested is not None
        assert attested.credential_id == verified.credential_id
        parsed = RegistrationResponse.from_dict(answer).response.attestation_object
        if parsed.fmt == "packed":
            client_hash = RegistrationResponse.from_dict(answer).response.client_data.hash
            assert set(parsed.att_stmt) == {"alg", "sig"}
            strictly_verify(attested.public_key, parsed.auth_data + client_hash, parsed.att_stmt["sig"])
        self.known[attested.credential_id] = (attested, verified.sign_count)
        return bytes(attested.credential_id)

    def authenticate(self, options: dict[str, Any], answer: dict[str, Any]) -> bytes:
        """Verify an assertion with both libraries and a strict check of the signature; the credential id."""
        challenge = websafe_decode(options["challenge"])
        credential_id = websafe_decode(answer["rawId"])
        attested, count = self.known[credential_id]
        verified = verify_authentication_response(
            credential=answer,
            expected_challenge=challenge,
            expected_rp_id=self.rp_id,
            expected_origin=self.origin,
            credential_public_key=_cose_bytes(attested),
            credential_current_sign_count=count,
            require_user_verification=True,
        )
        assert verified.new_sign_count > count
        server = self._server()
        _, state = server.authenticate_begin([attested], user_verification="required", challenge=challenge)
        server.authenticate_complete(state, [attested], answer)
        response = answer["response"]
        data, client = websafe_decode(response["authenticatorData"]), websafe_decode(response["clientDataJSON"])
        digest = hashes.Hash(hashes.SHA256())
        digest.update(client)
        strictly_verify(attested.public_key, data + digest.finalize(), websafe_decode(response["signature"]))
        self.known[credential_id] = (attested, verified.new_sign_count)
        return bytes(credential_id)


def strictly_verify(key: CoseKey, message: bytes, signature: bytes) -> None:
    """Modulus length exactly, and for PS256 a salt of exactly 32 bytes, which both libraries forget to ask for."""
    assert isinstance(key, RS256 | PS256)
    modulus = int.from_bytes(key[-1], "big")
    rsa_key = RSAPublicNumbers(int.from_bytes(key[-2], "big"), modulus).public_key()
    assert len(signature) == (modulus.bit_length() + 7) // 8
    chosen: padding.AsymmetricPadding = padding.PKCS1v15()
    if isinstance(key, PS256):
        chosen = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
    rsa_key.verify(signature, message, chosen, hashes.SHA256())


def _cose_bytes(attested: AttestedCredentialData) -> bytes:
    return cbor.encode(attested.public_key)
