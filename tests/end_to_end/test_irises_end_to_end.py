"""Simulated irises through a real server: rotation and masks inside the circuit, whole ceremonies."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_server import ThreadServer
from relying_parties import RelyingParty

from device_sdk import Device, KeyFile
from device_sdk.biometrics.iris import IrisEncoder, SimulatedIris
from device_sdk.errors import NoMatch


@pytest.mark.parametrize("bits", [2048, 4096])
def test_an_eye_enrols_and_logs_in(server: ThreadServer, tmp_path: Path, bits: int) -> None:
    """OpenIris templates in, turned by up to 9° each; another eye is refused."""
    eye, other, shop = SimulatedIris(21), SimulatedIris(22), RelyingParty()
    with Device.enrol(
        server=server.url,
        enrolment_code=server.code(),
        captures=[capture.to_openiris() for capture in eye.captures(3)],
        vault=tmp_path / "vault",
        vault_key=KeyFile(tmp_path / "vault.key"),
        profile=f"iris-{bits}",
        encoder=IrisEncoder(bits),
    ) as device:
        options = shop.creation_options()
        shop.register(options, device.create(options, shop.origin, eye.capture()))
        for _ in range(3):
            options = shop.request_options()
            shop.authenticate(options, device.get(options, shop.origin, eye.capture()))
        with pytest.raises(NoMatch):
            device.get(shop.request_options(), shop.origin, other.capture())

    # The template's shares fit the vault's pinned profile after opening it again.
    with Device.open(
        tmp_path / "vault", vault_key=KeyFile(tmp_path / "vault.key"), encoder=IrisEncoder(bits)
    ) as device:
        options = shop.request_options()
        shop.authenticate(options, device.get(options, shop.origin, eye.capture()))
