#!/usr/bin/env python3
"""Verifying Tandem passkeys with nothing but `cryptography` and a CBOR decoder: every check that WebAuthn asks for.

    python verify_cryptography.py FOLDER

Take a WebAuthn library if you can; this is for those who cannot, and to see what such a library does. `main` judges the
ceremonies that `make demo ARGS="--dump FOLDER"` wrote, in their order, and prints a line for each.
"""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
RS256, PS256 = -257, -37
PADDINGS = {
    RS256: padding.PKCS1v15(),
    PS256: padding.PSS(padding.MGF1(SHA256()), salt_length=32),  # exactly 32; PSS.AUTO would take any
}


class Refused(Exception):
    """Why an answer is not believed."""


def require(condition, why):
    if not condition:
        raise Refused(why)


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Site:
    """`passkeys` stands for a table: credential id → algorithm, RSA key, counter.

    Both calls raise Refused or InvalidSignature for what is not believed, and ValueError, KeyError or TypeError for
    what is not even formed like an answer. All of them mean no.
    """

    def __init__(self, rp_id, origin):
        self.rp_id, self.origin = rp_id, origin
        self.passkeys = {}

    def register(self, challenge, response):
        """Store the new passkey; its counter. `challenge`: taken out of the user's session, so that it serves once."""
        client_hash = self.checked_client_data(response, "webauthn.create", challenge)
        attestation = cbor2.loads(unpadded(response["response"]["attestationObject"]))
        data = attestation["authData"]
        flags, counter = self.checked_authenticator_data(data)
        require(flags & AT and not flags & ED, "no credential, or extensions that were not asked for")
        length = int.from_bytes(data[53:55], "big")
        credential_id, cose = data[55 : 55 + length], cbor2.loads(data[55 + length :])
        require(credential_id == unpadded(response["rawId"]) and 16 <= length <= 1023, "another credential id")
        require(cbor2.dumps(cose, canonical=True) == data[55 + length :], "bytes after the key")
        require(set(cose) == {1, 3, -1, -2} and cose[1] == 3 and cose[3] in PADDINGS, "no RSA key that we offered")
        modulus, exponent = (int.from_bytes(cose[name], "big") for name in (-1, -2))
        require(2048 <= modulus.bit_length() <= 4096, "a key of another size")
        key = RSAPublicNumbers(exponent, modulus).public_key()
        statement = attestation["attStmt"]
        if attestation["fmt"] == "packed":
            require(set(statement) == {"alg", "sig"} and statement["alg"] == cose[3], "no self attestation")
            key.verify(statement["sig"], data + client_hash, PADDINGS[cose[3]], SHA256())
        else:
            require(attestation["fmt"] == "none" and statement == {}, "a statement that we cannot check")
        require(credential_id not in self.passkeys, "this passkey is somebody's already")
        self.passkeys[credential_id] = {"algorithm": cose[3], "key": key, "counter": counter}
        return counter

    def sign_in(self, challenge, response):
        """The new counter."""
        passkey = self.passkeys.get(unpadded(response["rawId"]))
        require(passkey is not None, "an unknown passkey")
        client_hash = self.checked_client_data(response, "webauthn.get", challenge)
        data = unpadded(response["response"]["authenticatorData"])
        flags, counter = self.checked_authenticator_data(data)
        require(len(data) == 37 and not flags & (AT | ED), "more than a login has")
        # The plain call: RSA over authenticatorData ‖ SHA-256(clientDataJSON).
        signature = unpadded(response["response"]["signature"])
        passkey["key"].verify(signature, data + client_hash, PADDINGS[passkey["algorithm"]], SHA256())
        require(counter > passkey["counter"], "the counter did not grow")
        passkey["counter"] = counter
        return counter

    def checked_client_data(self, response, kind, challenge):
        """SHA-256 of the client data, once they say what they must."""
        raw = unpadded(response["response"]["clientDataJSON"])
        said = json.loads(raw)
        require(said["type"] == kind, "client data of another ceremony")
        require(hmac.compare_digest(unpadded(said["challenge"]), challenge), "another challenge")
        require(said["origin"] == self.origin and not said.get("crossOrigin"), "another origin")
        return hashlib.sha256(raw).digest()

    def checked_authenticator_data(self, data):
        """(flags, counter)"""
        require(len(data) >= 37 and data[:32] == hashlib.sha256(self.rp_id.encode()).digest(), "another rp id")
        flags = data[32]
        require(flags & UP and flags & UV, "the user was not verified")
        require(not flags & (BE | BS), "a passkey that can be copied")  # Tandem's are device-bound
        return flags, int.from_bytes(data[33:37], "big")


def main(folder):
    """(file, verdict) of each ceremony."""
    site = None
    for path in sorted(Path(folder).glob("*.json")):
        ceremony = json.loads(path.read_text(encoding="utf-8"))
        site = site or Site(ceremony["rp_id"], ceremony["origin"])
        verify = site.register if ceremony["kind"] == "create" else site.sign_in
        try:
            yield path.name, f"counter {verify(unpadded(ceremony['options']['challenge']), ceremony['response'])}"
        except Refused as refusal:
            yield path.name, f"refused: {refusal}"
        except (InvalidSignature, ValueError, KeyError, TypeError) as refusal:
            yield path.name, f"refused: {type(refusal).__name__}"


if __name__ == "__main__":
    for name, verdict in main(sys.argv[1]):
        print(f"{name}: {verdict}")
