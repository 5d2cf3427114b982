"""A device as a process of its own: enrols, or opens its vault, and logs in again and again until it is killed.

What it sends is in its record before it is sent, and what came of it right after: a file of JSON lines that outlives
the process. The relying party at the other end is py_webauthn.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import webauthn
from webauthn.helpers.structs import PublicKeyCredentialDescriptor

from device_sdk import Device, HttpTransport, KeyFile, SimulatedSensor
from device_sdk.errors import Advice, TandemError
from device_sdk.transport import RequestKey, ServerProblem, TransportReply
from mpc.login.messages import Message1

ORIGIN = "http://localhost:8080"
SITE = {"expected_rp_id": "localhost", "expected_origin": ORIGIN}
PROFILE, CODE_BITS = "sim-512", 512
LOGINS_PATH = "/v1/logins"
RECORD_NAME = "record"
_PASSKEY_NAME = "passkey"
_LAST_TRIES = 20
_PAUSE_S = (0.05, 0.4)


class Record:
    """Appends lines to a device's record. One system call each: what was written survives the process, whole."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / RECORD_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, what: str, **values: Any) -> None:
        os.write(self._file, json.dumps({"what": what, **values}).encode() + b"\n")


def read_record(folder: Path) -> list[dict[str, Any]]:
    """All lines of a device's record."""
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in (folder / RECORD_NAME).read_text().splitlines()]
    return []


class RecordingTransport:
    """The SDK's own transport; message 1 is in the record before it is sent, and what was answered after."""

    def __init__(self, inner: HttpTransport, record: Record) -> None:
        self._inner, self._record = inner, record
        self.last_index = 0

    def post_cbor(self, path: str, body: bytes, key: RequestKey, key_id: str, **more: Any) -> TransportReply:
        if path != LOGINS_PATH:
            return self._inner.post_cbor(path, body, key, key_id, **more)
        statement = Message1.decode(body).statement
        said = {"index": statement.ot_index, "request": hashlib.sha256(body).hexdigest()}
        self.last_index = statement.ot_index
        self._record.note("sent", nonce=statement.device_nonce.hex(), **said)
        try:
            reply = self._inner.post_cbor(path, body, key, key_id, **more)
        except ServerProblem as refusal:
            self._record.note("refused", code=refusal.problem.code, **said)
            raise
        self._record.note("answered", **said)
        return reply

    def get_json(self, path: str, **more: Any) -> TransportReply:
        return self._inner.get_json(path, **more)

    def close(self) -> None:
        self._inner.close()


def enrol_and_register(folder: str, url: str, seed: int, code: str) -> None:
    """A new vault and passkey in the folder. Nobody kills it meanwhile."""
    place = Path(folder)
    transport = RecordingTransport(HttpTransport(url), Record(place))
    finger = _finger(seed)
    device = Device.enrol(
        server=url,
        enrolment_code=code,
        captures=finger.captures(3),
        profile=PROFILE,
        transport=transport,
        **_vault(place),
    )
    with device:
        wanted = webauthn.generate_registration_options(rp_id="localhost", rp_name="Soak", user_name=f"user {seed}")
        made = device.create(webauthn.options_to_json(wanted), ORIGIN, finger.capture)
        passkey = webauthn.verify_registration_response(credential=made, expected_challenge=wanted.challenge, **SITE)
        keys = {"id": passkey.credential_id.hex(), "public_key": passkey.credential_public_key.hex()}
        text = json.dumps({**keys, "count": passkey.sign_count, "enrolment": device.enrolment_id.hex()})
        (place / _PASSKEY_NAME).write_text(text)
        if not device.confirm_now():
            raise RuntimeError("the registration was not confirmed")


def log_in_until_killed(folder: str, url: str, seed: int, think_s: float, progress: Connection) -> None:
    """Logins with a pause of `think_s` on average between them; each that was verified is told to `progress`.

    A fault that a retry cannot cure ends the process: the last login will show whether the user is stranded.
    """
    user, rng = _User(Path(folder), url, seed), random.Random()
    with user.device:
        while True:
            try:
                user.log_in()
                progress.send_bytes(b".")
                pause_s = rng.expovariate(1 / think_s)
            except TandemError as fault:
                user.record.note("fault", code=fault.code)
                if fault.advice is not Advice.RETRY:
                    raise SystemExit(1) from None
                pause_s = rng.uniform(*_PAUSE_S)
            time.sleep(pause_s)


def log_in_once(folder: str, url: str, seed: int) -> None:
    """The last login, with the vault that survived, and its confirmation. Exit code 1 if it cannot be."""
    user = _User(Path(folder), url, seed)
    with user.device:
        for step in (user.log_in, user.confirm):
            for _ in range(_LAST_TRIES):
                try:
                    step()
                    break
                except TandemError as fault:
                    user.record.note("fault", code=fault.code, last=True)
                    if fault.advice is not Advice.RETRY:
                        raise SystemExit(1) from None
                    time.sleep(_PAUSE_S[1])
            else:
                raise SystemExit(1)


def enrolment_of(folder: Path) -> bytes:
    """The id of the enrolment that lives in a folder."""
    return bytes.fromhex(json.loads((folder / _PASSKEY_NAME).read_text())["enrolment"])


class _User:
    """An opened vault, the finger before it, and what the relying party knows of its passkey."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self.record = Record(folder)
        self._transport = RecordingTransport(HttpTransport(url), self.record)
        self._finger = _finger(seed)
        self._passkey = json.loads((folder / _PASSKEY_NAME).read_text())
        released = [line["count"] for line in read_record(folder) if line["what"] == "released"]
        self._count = max([self._passkey["count"], *released])
        self.device = Device.open(transport=self._transport, **_vault(folder))

    def log_in(self) -> None:
        """One login that the relying party accepts. Raises the SDK's faults."""
        mine = PublicKeyCredentialDescriptor(id=bytes.fromhex(self._passkey["id"]))
        wanted = webauthn.generate_authentication_options(rp_id="localhost", allow_credentials=[mine])
        signed = self.device.get(webauthn.options_to_json(wanted), ORIGIN, self._finger.capture)
        verified = webauthn.verify_authentication_response(
            credential=signed,
            expected_challenge=wanted.challenge,
            credential_public_key=bytes.fromhex(self._passkey["public_key"]),
            credential_current_sign_count=self._count,
            require_user_verification=True,
            **SITE,
        )
        self._count = verified.new_sign_count
        self.record.note("released", index=self._transport.last_index, count=self._count)

    def confirm(self) -> None:
        if not self.device.confirm_now():
            raise RuntimeError("a confirmation is still outstanding")


def _finger(seed: int) -> SimulatedSensor:
    """A person, always the same; each process takes other captures of him."""
    return SimulatedSensor(seed, CODE_BITS, capture_seed=os.urandom(8))


def _vault(folder: Path) -> dict[str, Any]:
    return {"vault": folder / "vault", "vault_key": KeyFile(folder / "vault.key")}
