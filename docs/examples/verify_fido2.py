#!/usr/bin/env python3
"""A relying party that verifies Tandem passkeys with python-fido2 (pip install fido2).

    python verify_fido2.py FOLDER

`Site` is what a site needs; below it, `main` judges the ceremonies that `make demo ARGS="--dump FOLDER"` wrote, in
their order, and prints a line for each.
"""

import json
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from fido2.attestation import Attestation, InvalidData
from fido2.attestation import InvalidSignature as InvalidAttestation
from fido2.server import Fido2Server
from fido2.utils import websafe_decode
from fido2.webauthn import (
    AuthenticationResponse,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
)

ALGORITHMS = (-257, -37)  # RS256, then PS256. A site that also takes other passkeys adds theirs


def check_attestation(attestation_object, client_data_hash):
    """Verify whatever statement there is. Left out, the library believes every statement."""
    Attestation.for_type(attestation_object.fmt)().verify(
        attestation_object.att_stmt, attestation_object.auth_data, client_data_hash
    )


class Site:
    """`passkeys` stands for a table: credential id → attested credential data, counter."""

    def __init__(self, rp_id, origin):
        self.server = Fido2Server(
            PublicKeyCredentialRpEntity(id=rp_id, name="Shop"),
            attestation="direct",
            verify_origin=lambda stated: stated == origin,
            verify_attestation=check_attestation,
        )
        self.server.allowed_algorithms = [
            PublicKeyCredentialParameters(type=PublicKeyCredentialType.PUBLIC_KEY, alg=alg) for alg in ALGORITHMS
        ]
        self.passkeys = {}

    def registration_options(self, user_id, user_name):
        """For navigator.credentials.create(), and the state to keep in the user's session until `register`."""
        user = PublicKeyCredentialUserEntity(id=user_id, name=user_name, display_name=user_name)
        options, state = self.server.register_begin(
            user, resident_key_requirement="required", user_verification="required"
        )
        return dict(options.public_key), state

    def register(self, state, response):
        """Store the new passkey; its counter. Raises ValueError, InvalidData, InvalidAttestation."""
        data = self.server.register_complete(state, response)
        key = data.credential_data.public_key
        if key.ALGORITHM not in ALGORITHMS:
            raise ValueError("an algorithm that was not offered")  # the library does not look
        if data.credential_data.credential_id in self.passkeys:
            raise ValueError("this passkey is somebody's already")
        self.passkeys[data.credential_data.credential_id] = {"data": data.credential_data, "counter": data.counter}
        return data.counter

    def login_options(self):
        """For navigator.credentials.get(), and the state for `sign_in`."""
        known = [passkey["data"] for passkey in self.passkeys.values()]
        options, state = self.server.authenticate_begin(known, user_verification="required")
        return dict(options.public_key), state

    def sign_in(self, state, response):
        """The new counter. Raises ValueError, InvalidSignature, KeyError for an unknown passkey."""
        passkey = self.passkeys[websafe_decode(response["rawId"])]
        self.server.authenticate_complete(state, [passkey["data"]], response)
        counter = AuthenticationResponse.from_dict(response).response.authenticator_data.counter
        if counter <= passkey["counter"]:  # the library leaves the counter to the site
            raise ValueError("the counter did not grow")
        passkey["counter"] = counter
        return counter


def main(folder):
    """(file, verdict) of each ceremony."""
    site = None
    for path in sorted(Path(folder).glob("*.json")):
        ceremony = json.loads(path.read_text(encoding="utf-8"))
        site = site or Site(ceremony["rp_id"], ceremony["origin"])
        verify = site.register if ceremony["kind"] == "create" else site.sign_in
        # What register_begin and authenticate_begin gave as state; here the challenge is the one of the file.
        state = {"challenge": ceremony["options"]["challenge"], "user_verification": "required"}
        try:
            yield path.name, f"counter {verify(state, ceremony['response'])}"
        except (ValueError, KeyError, InvalidSignature, InvalidData, InvalidAttestation) as refusal:
            yield path.name, f"refused: {type(refusal).__name__}"


if __name__ == "__main__":
    for name, verdict in main(sys.argv[1]):
        print(f"{name}: {verdict}")
