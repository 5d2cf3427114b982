"""An app's own vault, key, transport, sensor and encoder: the example is run, and what the ports promise is kept."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from real_server import ThreadServer

from device_sdk import Device, KeyFile
from device_sdk.errors import (
    EnrolmentRefused,
    NotAllowed,
    TransportError,
    VaultCorrupt,
    VaultExists,
    VaultInUse,
    VaultMissing,
)
from device_sdk.transport import RequestKey, ServerProblem
from device_sdk.vault import VaultKeyUnavailable

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "app_ports.py"


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("app_ports", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def vault(app: ModuleType, tmp_path: Path) -> Callable[[], Any]:
    """The app's database, opened anew at each call."""
    hardware = app.Hardware()
    sealed = hardware.seal(bytes(32))
    return lambda: app.DatabaseVault(tmp_path / "app.db", hardware, sealed)


def test_the_example_enrols_and_signs_in_with_both_kinds_of_storage(
    app: ModuleType, server: ThreadServer, tmp_path: Path
) -> None:
    told = list(app.main(server.url, server.code(), server.code(), tmp_path))

    assert told == [
        "database: 2 signatures",
        "database, opened again: 3 signatures",
        "vault file: 2 signatures",
        "vault file, opened again: 3 signatures",
    ]


def test_an_enrolment_that_fails_leaves_the_apps_vault_empty(
    app: ModuleType, server: ThreadServer, vault: Callable[[], Any]
) -> None:
    """The next try must not find a vault that says it was enrolled."""
    finger = app.simulated_numbers()
    arguments: dict[str, Any] = {
        "server": server.url,
        "captures": [finger() for _ in range(3)],
        "profile": "sim-512",
        "encoder": app.SignsOfNumbers(),
    }
    with pytest.raises(EnrolmentRefused):
        Device.enrol(enrolment_code="0" * 20, vault=vault(), **arguments)
    with Device.enrol(enrolment_code=server.code(), vault=vault(), **arguments) as device:
        enrolled = device.enrolment_id
    own = vault()

    with pytest.raises(VaultExists):
        Device.enrol(enrolment_code=server.code(), vault=own, **arguments)
    with Device.open(own, encoder=app.SignsOfNumbers()) as device:
        assert device.enrolment_id == enrolled


def test_a_key_beside_a_vault_of_the_apps_own_is_a_mistake(vault: Callable[[], Any], tmp_path: Path) -> None:
    """It would protect nothing, and the app would believe that it does."""
    with pytest.raises(ValueError, match="vault_key"):
        Device.open(vault(), vault_key=KeyFile(tmp_path / "key"))


def test_the_database_vault_keeps_what_the_port_promises(vault: Callable[[], Any], tmp_path: Path) -> None:
    first = vault()
    with pytest.raises(VaultMissing):
        first.read()
    first.write(b"one")
    first.write(b"two")
    with pytest.raises(VaultInUse):
        vault()
    first.close()

    second = vault()
    assert second.read() == b"two"
    assert b"two" not in (tmp_path / "app.db").read_bytes()
    second.close()
    with sqlite3.connect(tmp_path / "app.db") as database:
        database.execute("UPDATE vault SET value = zeroblob(40)")
    database.close()
    third = vault()
    with pytest.raises(VaultCorrupt):
        third.read()
    third.close()


def test_another_phones_hardware_does_not_open_the_key(app: ModuleType, tmp_path: Path) -> None:
    sealed = tmp_path / "key.sealed"
    key = app.HardwareKey(app.Hardware(), sealed)
    recipe = key.new_recipe()
    material = key.key_material(recipe, creating=True)

    assert key.key_material(recipe, creating=False) == material
    with pytest.raises(VaultKeyUnavailable):
        app.HardwareKey(app.Hardware(), sealed).key_material(recipe, creating=False)


def test_the_transport_tells_refusals_and_silence_apart(app: ModuleType, server: ThreadServer) -> None:
    """A refusal has the server's word in it; where nobody answers, the SDK must know that nothing is known."""
    with pytest.raises(ServerProblem) as refusal:
        app.PlatformTransport(server.url).post_cbor("/v1/logins", b"\xa0", RequestKey.generate(), "k" * 22)
    assert refusal.value.problem.code == "unauthenticated"

    with pytest.raises(TransportError):
        app.PlatformTransport("http://127.0.0.1:1").get_json("/v1/profiles/sim-512")


def test_a_person_who_refuses_the_prompt_refuses_the_ceremony(app: ModuleType) -> None:
    sensor = app.PromptingSensor(lambda text: False, lambda: [0.0] * 512)

    with pytest.raises(NotAllowed):
        sensor.capture()
