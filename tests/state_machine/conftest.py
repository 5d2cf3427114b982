"""An enrolled phone with one passkey, made once through the SDK; each test works on copies of the files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from state_machine_databases import copy_database, drop_databases, new_database, postgresql_is_reachable
from state_machine_harness import ENCODER, FACE, PROFILE, SERVER_URL, Clock, Network, Phone, Server, copy_vault

from authsvc.services import administration
from authsvc.services.kek_adoption import adopt_kek
from device_sdk import Device
from device_sdk.vault.keys import KeyFile
from mpc.primitives.rng import Rng
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare, split

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


BACKENDS = ["sqlite", "postgresql"] if postgresql_is_reachable() else ["sqlite"]


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
