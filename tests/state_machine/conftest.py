"""An enrolled phone with one passkey, made once through the SDK; each test works on copies of the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cached_rsa_keys import cached_rsa_keys  # noqa: F401  (a fixture of every test here)
from state_machine_databases import BACKENDS, copy_database, drop_databases, new_database
from state_machine_harness import ENCODER, FACE, PROFILE, SERVER_URL, Clock, Network, Phone, Server, copy_vault

from authsvc.services import administration
from authsvc.services.kek_adoption import adopt_kek
from device_sdk import Device
from device_sdk.vault.keys import KeyFile


@pytest.fixture(scope="session", autouse=True)
def databases_are_dropped() -> Iterator[None]:
    """PostgreSQL databases do not go away with a temporary folder."""
    yield
    drop_databases()


@pytest.fixture(scope="session", params=BACKENDS)
def enrolled_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """server.db, vault, vault.key and accounts.json after one enrolment and one confirmed registration."""
    folder = tmp_path_factory.mktemp("enrolled")
    new_database(folder, request.param)
    clock = Clock()
    server = Server(folder, clock)
    adopt_kek(server.store, server.ctx.keyring)  # so that the real command serves this database too
    code = administration.issue_code(server.ctx, label="Ada").code
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=[FACE] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, clock, server.profile_document),
    ).close()
    (folder / "accounts.json").write_text("{}")
    phone = Phone(folder, server)
    phone.create()
    assert phone.confirm()
    (folder / "accounts.json").write_text(json.dumps(phone.relying_party.accounts))
    phone.crash()
    server.close()
    return folder


@pytest.fixture
def folder(enrolled_folder: Path, tmp_path: Path) -> Path:
    copy_database(enrolled_folder, tmp_path)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(folder: Path, clock: Clock) -> Iterator[Server]:
    worker = Server(folder, clock)
    yield worker
    worker.close()


@pytest.fixture
def phone(enrolled_folder: Path, folder: Path, server: Server) -> Iterator[Phone]:
    held = Phone(copy_vault(enrolled_folder, folder / "phone"), server)
    yield held
    held.crash()


@pytest.fixture
def clone(phone: Phone, folder: Path, server: Server) -> Iterator[Phone]:
    """A copy of the phone's vault, taken before anything else happens."""
    copied = phone.clone(folder / "clone", server)
    yield copied
    copied.crash()
