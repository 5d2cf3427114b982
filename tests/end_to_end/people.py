"""People in front of a device, and devices enrolled for them."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from real_server import ProcessServer, ThreadServer

from device_sdk import BinaryCode, Device, KeyFile, SimulatedSensor


class Person:
    """A simulated person; `capture` is a fresh capture."""

    def __init__(self, seed: int = 1, code_bits: int = 512) -> None:
        self.sensor = SimulatedSensor(seed, code_bits, genuine_error=0.1, capture_seed=secrets.token_bytes(8))

    def capture(self) -> BinaryCode:
        return self.sensor.capture()

    def captures(self) -> list[BinaryCode]:
        return self.sensor.captures(3)


def enrolled_device(
    running: ThreadServer | ProcessServer, folder: Path, person: Person, /, profile: str = "sim-512", **more: Any
) -> Device:
    """A device enrolled for `person`, with its vault in `folder`."""
    arguments: dict[str, Any] = {
        "server": running.url,
        "captures": person.captures(),
        "vault": folder / "vault",
        "vault_key": KeyFile(folder / "vault.key"),
        "profile": profile,
        **more,
    }
    if "enrolment_code" not in arguments:
        arguments["enrolment_code"] = running.code()
    return Device.enrol(**arguments)
