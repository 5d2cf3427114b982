#!/usr/bin/env python3
"""A relying party that verifies Tandem passkeys with py_webauthn (pip install webauthn).

    python verify_py_webauthn.py FOLDER

`Site` is what a site needs; below it, `main` judges the ceremonies that `make demo ARGS="--dump FOLDER"` wrote, in
their order, and prints a line for each.
"""

import json
import sys
from pathlib import Path

import webauthn
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import InvalidRegistrationResponse, WebAuthnException
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

# Tandem signs with RSA. A site that also takes other passkeys adds their algorithms; the order is that of preference.
ALGORITHMS = [COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256, COSEAlgorithmIdentifier.RSASSA_PSS_SHA_256]


class Site:
    """`passkeys` stands for a table: credential id → public key, counter."""

    def __init__(self, rp_id, origin):
        self.rp_id, self.origin = rp_id, origin
        self.passkeys = {}

    def registration_options(self, user_name):
        """For navigator.credentials.create(). Keep `challenge` in the user's session, and take it out to verify."""
        options = webauthn.generate_registration_options(
            rp_id=self.rp_id,
            rp_name="Shop",
            user_name=user_name,
            attestation=AttestationConveyancePreference.DIRECT,
            supported_pub_key_algs=ALGORITHMS,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
        )
        return webauthn.options_to_json(options), options.challenge

    def register(self, challenge, response):
        """Store the new passkey; its counter. Raises WebAuthnException."""
        passkey = webauthn.verify_registration_response(
            credential=response,
            expected_challenge=challenge,
            expected_rp_id=self.rp_id,
            expected_origin=self.origin,
            require_user_verification=True,
            supported_pub_key_algs=ALGORITHMS,
        )
        if passkey.credential_id in self.passkeys:
            raise InvalidRegistrationResponse("this passkey is somebody's already")
        self.passkeys[passkey.credential_id] = {"key": passkey.credential_public_key, "counter": passkey.sign_count}
        return passkey.sign_count

    def login_options(self):
        """For navigator.credentials.get()."""
        options = webauthn.generate_authentication_options(
            rp_id=self.rp_id,
            user_verification=UserVerificationRequirement.REQUIRED,
            allow_credentials=[PublicKeyCredentialDescriptor(id=known) for known in self.passkeys],
        )
        return webauthn.options_to_json(options), options.challenge

    def sign_in(self, challenge, response):
        """The new counter. Raises WebAuthnException, KeyError for an unknown passkey."""
        passkey = self.passkeys[base64url_to_bytes(response["rawId"])]
        login = webauthn.verify_authentication_response(
            credential=response,
            expected_challenge=challenge,
            expected_rp_id=self.rp_id,
            expected_origin=self.origin,
            credential_public_key=passkey["key"],
            credential_current_sign_count=passkey["counter"],  # a counter that does not grow is refused
            require_user_verification=True,
        )
        passkey["counter"] = login.new_sign_count
        return login.new_sign_count


def main(folder):
    """(file, verdict) of each ceremony."""
    site = None
    for path in sorted(Path(folder).glob("*.json")):
        ceremony = json.loads(path.read_text(encoding="utf-8"))
        site = site or Site(ceremony["rp_id"], ceremony["origin"])
        verify = site.register if ceremony["kind"] == "create" else site.sign_in
        try:
            yield (
                path.name,
                f"counter {verify(base64url_to_bytes(ceremony['options']['challenge']), ceremony['response'])}",
            )
        except (WebAuthnException, KeyError) as refusal:
            yield path.name, f"refused: {type(refusal).__name__}"


if __name__ == "__main__":
    for name, verdict in main(sys.argv[1]):
        print(f"{name}: {verdict}")
