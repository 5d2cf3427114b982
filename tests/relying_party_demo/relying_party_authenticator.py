"""A software authenticator with whole keys, built on python-fido2: an independent source of WebAuthn answers."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from fido2.cose import CoseKey
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

from relying_party_demo.face_phone_port import PhoneFault, PictureProblem, PicturesUnusable
from relying_party_demo.phone_port import PhoneOutcome, Step, WhatEachPartySaw, Who

UP, UV, AT = 0x01, 0x04, 0x40
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Credential:
    id: bytes
    rp_id: str
    user_handle: bytes
    algorithm: int
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    counter: int

    def sign(self, message: bytes) -> bytes:
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(message, ec.ECDSA(hashes.SHA256()))
            case _ if self.algorithm == -37:
                return self.key.sign(message, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
            case _:
                return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())


@dataclass
class SoftwareAuthenticator:
    """Answers what it is asked, and lets a test bend every part of the answer."""

    algorithm: int = -257
    flags: int = UP | UV
    counter_step: int = 1
    credentials: list[Credential] = field(default_factory=list)

    def create(self, options: dict[str, Any], origin: str, *, attestation: str | None = None) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1()) if self.algorithm == -7 else RSA_KEY
        cose = CoseKey.for_alg(self.algorithm).from_cryptography_key(key.public_key())
        credential = Credential(
            id=secrets.token_bytes(32),
            rp_id=options["rp"]["id"],
            user_handle=websafe_decode(options["user"]["id"]),
            algorithm=self.algorithm,
            key=key,
            counter=1 if self.counter_step else 0,
        )
        authenticator_data = AuthenticatorData.create(
            hashlib.sha256(credential.rp_id.encode()).digest(),
            AuthenticatorData.FLAG(self.flags | AT),
            credential.counter,
            AttestedCredentialData.create(Aaguid(b"software authent"), credential.id, cose),
        )
        client_data = CollectedClientData.create("webauthn.create", options["challenge"], origin)
        if (attestation or options["attestation"]) == "none":
            attested = AttestationObject.create("none", authenticator_data, {})
        else:
            signature = credential.sign(authenticator_data + client_data.hash)
            statement = {"alg": self.algorithm, "sig": signature}
            attested = AttestationObject.create("packed", authenticator_data, statement)
        self.credentials.append(credential)
        return _answer(credential, {"clientDataJSON": client_data, "attestationObject": attested})

    def get(
        self,
        options: dict[str, Any],
        origin: str,
        *,
        credential: Credential | None = None,
        user_handle: bytes | None = None,
    ) -> dict[str, Any]:
        if credential is None:
            allowed = {websafe_decode(entry["id"]) for entry in options["allowCredentials"]}
            credential = next(c for c in reversed(self.credentials) if not allowed or c.id in allowed)
        credential.counter += self.counter_step
        authenticator_data = AuthenticatorData.create(
            hashlib.sha256(options["rpId"].encode()).digest(), AuthenticatorData.FLAG(self.flags), credential.counter
        )
        client_data = CollectedClientData.create("webauthn.get", options["challenge"], origin)
        parts = {
            "clientDataJSON": client_data,
            "authenticatorData": authenticator_data,
            "signature": credential.sign(authenticator_data + client_data.hash),
            "userHandle": credential.user_handle if user_handle is None else user_handle,
        }
        return _answer(credential, parts)


class SoftwarePhone:
    """A `Phone` over the software authenticator, whose impostor is refused: no split keys here."""

    def __init__(self) -> None:
        self.authenticator = SoftwareAuthenticator()

    def register(self, options: dict[str, Any], origin: str) -> PhoneOutcome:
        return self._outcome(self.authenticator.create(options, origin), None)

    def sign_in(self, options: dict[str, Any], origin: str, who: Who) -> PhoneOutcome:
        if who == "impostor":
            return self._outcome(None, "the capture does not match the enrolled person (no_match)", "no_match")
        return self._outcome(self.authenticator.get(options, origin), None)

    def _outcome(self, response: dict[str, Any] | None, refusal: str | None, code: str = "") -> PhoneOutcome:
        signature = response["response"].get("signature", "") if response else ""
        seen = WhatEachPartySaw(
            code_bits=2048,
            device_template_share=secrets.token_bytes(256),
            server_template_share=secrets.token_bytes(256),
            bytes_up=37_412,
            bytes_down=66_905,
            steps=(Step("capture", 1.3), Step("oblivious transfer", 2.9), Step("round trip", 12.2)),
            signature_hex=websafe_decode(signature).hex(),
        )
        return PhoneOutcome(response, refusal, seen, code)


class SoftwareFacePhones:
    """`FacePhones` over software authenticators: a picture is its owner's name, b"dark" is too dark.

    The server never forgets b"stuck".
    """

    def __init__(self) -> None:
        self.phones: dict[bytes, tuple[bytes, SoftwarePhone]] = {}
        self.looked_at = 0

    def is_enrolled(self, browser: bytes) -> bool:
        return browser in self.phones

    def enrol(self, browser: bytes, pictures: Sequence[bytes], options: dict[str, Any], origin: str) -> PhoneOutcome:
        self._look_at(pictures)
        if not 3 <= len(pictures) <= 10:
            raise PicturesUnusable("Enrolling takes 3 to 10 pictures.")
        if pictures[0] == b"no server":
            raise PhoneFault("The server could not be reached.")
        self.phones[browser] = (pictures[0], SoftwarePhone())
        return self.phones[browser][1].register(options, origin)

    def register(self, browser: bytes, picture: bytes, options: dict[str, Any], origin: str) -> PhoneOutcome | None:
        self._look_at([picture])
        return self.phones[browser][1].register(options, origin) if browser in self.phones else None

    def sign_in(self, browser: bytes, picture: bytes, options: dict[str, Any], origin: str) -> PhoneOutcome | None:
        self._look_at([picture])
        if browser not in self.phones:
            return None
        owner, phone = self.phones[browser]
        return phone.sign_in(options, origin, "owner" if picture == owner else "impostor")

    def forget(self, browser: bytes) -> None:
        if self.phones.pop(browser, (b"", None))[0] == b"stuck":
            raise PhoneFault("The server did not erase its half.")

    def _look_at(self, pictures: Sequence[bytes]) -> None:
        self.looked_at += len(pictures)
        dark = [at for at, picture in enumerate(pictures, start=1) if picture == b"dark"]
        if dark:
            problems = [PictureProblem(at, "face_too_dark", "The face is too dark.") for at in dark]
            raise PicturesUnusable(f"{len(dark)} of {len(pictures)} pictures cannot be used.", problems)


def _answer(credential: Credential, parts: dict[str, bytes]) -> dict[str, Any]:
    return {
        "id": websafe_encode(credential.id),
        "rawId": websafe_encode(credential.id),
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {},
        "response": {name: websafe_encode(part) for name, part in parts.items()},
    }
