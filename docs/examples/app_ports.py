#!/usr/bin/env python3
"""What an app plugs into the SDK, each port once and complete: vault, vault key, transport, sensor, encoder.

    python app_ports.py http://127.0.0.1:8443 CODE CODE FOLDER

enrols twice, with two of the operator's codes: with the state in a database of the app, and in a vault file under a key
of the hardware. Each time it makes a passkey, signs in, opens the state again and signs in. `Hardware` stands for the
platform's key store (Android Keystore, Secure Enclave) and `numbers` for its sensor: those two an app replaces.
"""

import secrets
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import webauthn
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from webauthn.helpers.structs import PublicKeyCredentialDescriptor

from device_sdk import BinaryCode, Device, Encoder, Sensor, Transport, Vault, VaultKey
from device_sdk.biometrics import EncodingError, majority
from device_sdk.errors import (
    InconsistentCaptures,
    NotAllowed,
    ServerMisbehaved,
    ServerUnavailable,
    TransportError,
    VaultCorrupt,
    VaultInUse,
    VaultMissing,
)
from device_sdk.transport import ServerProblem, TransportReply, parse_problem, signed_headers
from device_sdk.vault import KeyRecipe, KeySource, VaultKeyUnavailable, VaultUnusable, new_salt

ORIGIN = "http://localhost:8080"


class Hardware:
    """A key that never leaves a chip: it seals and opens small secrets. Here it is in memory, and protects nothing."""

    def __init__(self):
        self._key = AESGCM(secrets.token_bytes(32))

    def seal(self, secret):
        nonce = secrets.token_bytes(12)
        return nonce + self._key.encrypt(nonce, secret, b"")

    def open(self, sealed):
        return self._key.decrypt(sealed[:12], sealed[12:], b"")


class HardwareKey(VaultKey):
    """The vault file's key, sealed by the hardware. A phone that is reset, or another phone, cannot open it."""

    source = KeySource.APPLICATION

    def __init__(self, hardware, sealed_file):
        self._hardware, self._file = hardware, Path(sealed_file)

    def new_recipe(self):
        return KeyRecipe(self.source, new_salt())

    def key_material(self, recipe, *, creating):
        if creating and not self._file.exists():
            self._file.write_bytes(self._hardware.seal(secrets.token_bytes(32)))
        try:
            return self._hardware.open(self._file.read_bytes())
        except (FileNotFoundError, InvalidTag):
            raise VaultKeyUnavailable("the key store does not hold the key of this vault") from None


class DatabaseVault(Vault):
    """The state in the app's own database instead of a file, under a key that the hardware opens.

    EXTRA: a commit is on the disk when it returns, and no power cut brings its journal back. EXCLUSIVE: nobody else
    opens the database meanwhile.
    """

    def __init__(self, path, hardware, sealed_key):
        self._cipher = AESGCM(hardware.open(sealed_key))
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA synchronous = EXTRA")
            self._database.execute("CREATE TABLE IF NOT EXISTS vault (id INTEGER PRIMARY KEY, value BLOB)")
            self._database.execute("DELETE FROM vault WHERE id <> 1")  # a write takes the lock, which is then kept
        except sqlite3.OperationalError:
            self._database.close()
            raise VaultInUse from None

    def read(self):
        row = self._database.execute("SELECT value FROM vault").fetchone()
        if row is None:
            raise VaultMissing("nobody has enrolled on this device")
        try:
            return self._cipher.decrypt(row[0][:12], row[0][12:], b"")
        except InvalidTag:
            raise VaultCorrupt("the stored state was damaged or changed") from None

    def write(self, payload):
        nonce = secrets.token_bytes(12)
        sealed = nonce + self._cipher.encrypt(nonce, payload, b"")
        try:
            self._database.execute("INSERT OR REPLACE INTO vault VALUES (1, ?)", [sealed])
        except sqlite3.Error as error:
            raise VaultUnusable("the database refused the new state") from error

    def close(self):
        self._database.close()


class PlatformTransport(Transport):
    """HTTPS through another stack, here Python's. One try a request, no redirects, a limit for time and for size."""

    def __init__(self, server, timeout_s=15.0):
        self._server, self._timeout_s = server, timeout_s
        # An opener without the redirect, proxy and cookie handlers that urlopen brings along.
        self._opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
            self._opener.add_handler(handler())

    def post_cbor(self, path, body, key, key_id, *, max_response_bytes=256 * 1024, timeout_s=None):
        headers = signed_headers(
            method="POST",
            url=self._server + path,
            content_type="application/cbor",
            body=body,
            key=key,
            key_id=key_id,
            now_s=time.time(),
        )
        return self._ask(path, body, headers, "application/cbor", max_response_bytes, timeout_s)

    def get_json(self, path, *, max_response_bytes=256 * 1024, timeout_s=None):
        return self._ask(path, None, {}, "application/json", max_response_bytes, timeout_s)

    def close(self):
        pass

    def _ask(self, path, body, headers, expected_type, limit, timeout_s):
        request = urllib.request.Request(self._server + path, body, headers)
        try:
            with self._opener.open(request, timeout=timeout_s or self._timeout_s) as answer:
                received, kind = answer.read(limit + 1), answer.headers.get_content_type()
        except OSError as error:
            raise TransportError from error
        if len(received) > limit:
            raise ServerMisbehaved("answer_too_large")
        if answer.status == 200 and kind == expected_type:
            return TransportReply(received, len(body or b""), len(received))
        if answer.status >= 400 and kind == "application/problem+json":
            raise ServerProblem(parse_problem(received, expected_status=answer.status))
        if answer.status >= 500:
            raise ServerUnavailable
        raise ServerMisbehaved("unexpected_status")


class PromptingSensor(Sensor):
    """Asks the person, then takes a sample of now. `numbers` gives what the hardware measured."""

    def __init__(self, ask, numbers):
        self._ask, self._numbers = ask, numbers

    def capture(self):
        if not self._ask("Touch the sensor to go on"):
            raise NotAllowed("the user refused")
        return self._numbers()


class SignsOfNumbers(Encoder):
    """512 measured numbers to 512 bits, for the profile sim-512. A real encoder has its own id and error rates."""

    encoder_id, code_bits, masked = "binary-code-v1", 512, False

    def encode(self, sample):
        if len(sample) != self.code_bits:
            raise EncodingError("wrong_shape", "the sensor gives 512 numbers")
        return BinaryCode((np.asarray(sample) > 0).astype(np.uint8))

    def enrol(self, samples, agree=None):
        codes = [self.encode(sample) for sample in samples]
        template = majority(codes)
        if agree is not None and not all(agree(code, template) for code in codes):
            raise InconsistentCaptures
        return template


def sign_up(device, sensor):
    """A passkey at a relying party, which py_webauthn plays."""
    wanted = webauthn.generate_registration_options(rp_id="localhost", rp_name="Demo", user_name="ann")
    return webauthn.verify_registration_response(
        credential=device.create(webauthn.options_to_json(wanted), ORIGIN, sensor.capture),
        expected_challenge=wanted.challenge,
        expected_rp_id="localhost",
        expected_origin=ORIGIN,
    )


def sign_in(device, sensor, passkey):
    """The number of signatures so far."""
    wanted = webauthn.generate_authentication_options(
        rp_id="localhost", allow_credentials=[PublicKeyCredentialDescriptor(id=passkey.credential_id)]
    )
    return webauthn.verify_authentication_response(
        credential=device.get(webauthn.options_to_json(wanted), ORIGIN, sensor.capture),
        expected_challenge=wanted.challenge,
        expected_rp_id="localhost",
        expected_origin=ORIGIN,
        credential_public_key=passkey.credential_public_key,
        credential_current_sign_count=passkey.sign_count,
    ).new_sign_count


def simulated_numbers(seed=7):
    """A finger that measures the same 512 numbers with some noise."""
    finger, noise = np.random.default_rng(seed).normal(size=512), np.random.default_rng()
    return lambda: finger + noise.normal(scale=0.2, size=512)


def main(server, first_code, second_code, folder):
    """A line for each thing done."""
    hardware, sensor, folder = Hardware(), PromptingSensor(lambda text: True, simulated_numbers()), Path(folder)
    sealed_key, key = hardware.seal(secrets.token_bytes(32)), HardwareKey(hardware, folder / "vault.key.sealed")

    def in_database():
        return {"vault": DatabaseVault(folder / "app.db", hardware, sealed_key)}

    def in_file():
        return {"vault": folder / "app.vault", "vault_key": key}

    for name, kept, code in (("database", in_database, first_code), ("vault file", in_file, second_code)):
        plugged = {"encoder": SignsOfNumbers(), "transport": PlatformTransport(server)}
        captures = [sensor.capture() for _ in range(3)]
        with Device.enrol(
            server=server, enrolment_code=code, captures=captures, profile="sim-512", **kept(), **plugged
        ) as device:
            passkey = sign_up(device, sensor)
            yield f"{name}: {sign_in(device, sensor, passkey)} signatures"
        with Device.open(**kept(), **plugged) as device:
            yield f"{name}, opened again: {sign_in(device, sensor, passkey)} signatures"


if __name__ == "__main__":
    for line in main(*sys.argv[1:5]):
        print(line)
