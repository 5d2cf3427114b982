"""A device with a person in front of it and a CTAP client beside it, against a real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_rsa_keys import cached_rsa_keys  # noqa: F401  (a fixture of every test here)

_END_TO_END = str(Path(__file__).parent.parent / "end_to_end")
if _END_TO_END not in sys.path:
    sys.path.append(_END_TO_END)

from ctap_site import Clock, Finger, Site, Traces  # noqa: E402
from people import Person, enrolled_device  # noqa: E402
from real_server import ThreadServer, thread_server  # noqa: E402

from device_sdk import Device  # noqa: E402
from device_sdk.ctap import TandemCtapDevice  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def enrolled(server: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """Enrolling takes longer than most of these tests."""
    with enrolled_device(server, tmp_path_factory.mktemp("device"), Person(1)) as device:
        yield device


@pytest.fixture
def device(enrolled: Device) -> Device:
    """Without a passkey."""
    for passkey in enrolled.credentials():
        enrolled.delete(passkey.credential_id)
    return enrolled


@pytest.fixture
def finger() -> Finger:
    return Finger(Person(1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authenticator(device: Device, finger: Finger, clock: Clock) -> Iterator[TandemCtapDevice]:
    with TandemCtapDevice(device, finger, clock=clock) as opened:
        yield opened


@pytest.fixture
def traces(server: ThreadServer, device: Device) -> Traces:
    return Traces(server, device)


@pytest.fixture
def shop(authenticator: TandemCtapDevice) -> Site:
    return Site(authenticator)
