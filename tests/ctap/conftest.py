"""A device with a person in front of it and a CTAP client beside it, against a real server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

_END_TO_END = str(Path(__file__).parent.parent / "end_to_end")
if _END_TO_END not in sys.path:
    sys.path.append(_END_TO_END)

from ctap_site import Clock, Finger, Site, Traces  # noqa: E402
from people import Person, enrolled_device  # noqa: E402
from real_server import ThreadServer, thread_server  # noqa: E402

from device_sdk import Device  # noqa: E402
from device_sdk.ctap import TandemCtapDevice  # noqa: E402
from mpc.primitives.rng import Rng  # noqa: E402
from mpc.threshold_rsa.public_key import PublicKey  # noqa: E402
from mpc.threshold_rsa.shares import KeyShare, split  # noqa: E402

_KEYS = 4
_next_key = count()


@lru_cache(maxsize=_KEYS)
def _private_key(which: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _split_cached_key(rng: Rng, modulus_bits: int) -> tuple[KeyShare, KeyShare]:
    """A real split of a real key that another credential of another test may have had."""
    assert modulus_bits == 2048
    numbers = _private_key(next(_next_key) % _KEYS).private_numbers()
    return split(rng, PublicKey(numbers.public_numbers.n), numbers.d)


@pytest.fixture(autouse=True)
def cached_rsa_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making RSA keys is slow and not under test here."""
    monkeypatch.setattr("device_sdk.registration.generate_split_key", _split_cached_key)


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
