"""An enrolled device with a passkey, and logins with it."""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rows import Combination
from device_sdk import BinaryCode, Device, KeyFile, SimulatedSensor, Transport
from device_sdk.biometrics.iris import IrisCode, IrisEncoder, SimulatedIris

ORIGIN = "http://localhost"
RP_ID = "localhost"
RS256 = -257
_CONFIRMATION_THREAD = "tandem-confirm"


@dataclass(frozen=True, slots=True)
class Person:
    """A simulated person, the device and its one passkey."""

    device: Device
    sensor: SimulatedSensor | SimulatedIris
    credential_id: str

    def options(self) -> dict[str, Any]:
        """What a relying party sends: a fresh challenge for this passkey."""
        return {
            "challenge": _base64url(secrets.token_bytes(32)),
            "rpId": RP_ID,
            "userVerification": "required",
            "allowCredentials": [{"type": "public-key", "id": self.credential_id}],
        }

    def capture(self) -> BinaryCode | IrisCode:
        return self.sensor.capture()

    def login(self, options: dict[str, Any], capture: BinaryCode | IrisCode) -> None:
        """From the SDK call to the assertion in hand."""
        self.device.get(options, ORIGIN, capture)

    def wait_for_confirmation(self) -> None:
        """Until the server has acknowledged the login before."""
        # The SDK delivers in the background by itself; asking it to deliver at the same time would make two.
        for thread in threading.enumerate():
            if thread.name == _CONFIRMATION_THREAD:
                thread.join()
        if not self.device.confirm_now():
            raise RuntimeError("a confirmation was not delivered")


def enrolled(
    combination: Combination, *, server: str, code: str, transport: Transport, directory: Path, seed: int
) -> Person:
    """Enrol a new person, and register a passkey of the combination's modulus."""
    # What an encoder costs is no part of a login's cost: faces are codes here, irises need little to be reduced.
    is_iris = combination.profile.startswith("iris")
    sensor = SimulatedIris(seed) if is_iris else SimulatedSensor(seed, combination.code_bits)
    vault = directory / f"vault-{combination.profile}-{combination.modulus_bits}-{seed}"
    device = Device.enrol(
        server=server,
        enrolment_code=code,
        captures=sensor.captures(3),
        vault=vault,
        vault_key=KeyFile(vault.with_suffix(".key")),
        profile=combination.profile,
        encoder=IrisEncoder(combination.code_bits) if is_iris else None,
        transport=transport,
    )
    options = {
        "rp": {"id": RP_ID, "name": "Benchmark"},
        "user": {"id": _base64url(secrets.token_bytes(16)), "name": "visitor", "displayName": "Visitor"},
        "challenge": _base64url(secrets.token_bytes(32)),
        "pubKeyCredParams": [{"type": "public-key", "alg": RS256}],
    }
    response = device.create(options, ORIGIN, sensor.capture(), modulus_bits=combination.modulus_bits)
    person = Person(device, sensor, response["id"])
    person.wait_for_confirmation()
    return person


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
