"""Enrolment through a real server: what it takes, and what is left behind when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from people import Person, enrolled_device
from real_server import ThreadServer
from relying_parties import RelyingParty

from device_sdk import Device, KeyFile
from device_sdk.errors import (
    Advice,
    EncodingError,
    EnrolmentRefused,
    InconsistentCaptures,
    InsecureTransport,
    TandemError,
    TransportError,
    VaultExists,
    VaultInUse,
)


def nothing_left(folder: Path) -> bool:
    return not (folder / "vault").exists()


def test_a_used_code(server: ThreadServer, tmp_path: Path) -> None:
    code = server.code()
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    enrolled_device(server, first, Person(), enrolment_code=code).close()

    with pytest.raises(EnrolmentRefused) as fault:
        enrolled_device(server, second, Person(), enrolment_code=code)
    assert fault.value.advice is Advice.STOP
    assert nothing_left(second)
    assert code not in str(fault.value)


def test_an_expired_code(server: ThreadServer, tmp_path: Path) -> None:
    code = server.code(lifetime_s=60)
    with server.context.store.write() as conn:
        conn.exec_driver_sql("UPDATE codes SET expires_at = expires_at - 61 WHERE used_at IS NULL")
    with pytest.raises(EnrolmentRefused):
        enrolled_device(server, tmp_path, Person(), enrolment_code=code)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("code", ["0000-0000-0000-0000-0000", "not a code", "x", "é" * 20])
def test_an_unknown_code(server: ThreadServer, tmp_path: Path, code: str) -> None:
    with pytest.raises(EnrolmentRefused):
        enrolled_device(server, tmp_path, Person(), enrolment_code=code)
    assert nothing_left(tmp_path)


def test_a_code_as_people_type_it(server: ThreadServer, tmp_path: Path) -> None:
    typed = " " + server.code().lower().replace("-", " ").replace("0", "o").replace("1", "l")
    enrolled_device(server, tmp_path, Person(), enrolment_code=typed).close()


def test_inconsistent_captures_cost_no_code(server: ThreadServer, tmp_path: Path) -> None:
    code = server.code()
    mixed = [*Person(1).captures()[:2], Person(2).capture()]
    with pytest.raises(InconsistentCaptures):
        enrolled_device(server, tmp_path, Person(), enrolment_code=code, captures=mixed)
    assert nothing_left(tmp_path)
    with pytest.raises(EncodingError):
        enrolled_device(server, tmp_path, Person(), enrolment_code=code, captures=mixed[:2])
    enrolled_device(server, tmp_path, Person(), enrolment_code=code).close()


def test_captures_of_another_length_than_the_profiles(server: ThreadServer, tmp_path: Path) -> None:
    code = server.code()
    with pytest.raises(EncodingError):
        enrolled_device(server, tmp_path, Person(code_bits=1024), enrolment_code=code)
    assert nothing_left(tmp_path)


def test_a_profile_that_does_not_exist(server: ThreadServer, tmp_path: Path) -> None:
    with pytest.raises(TandemError) as fault:
        enrolled_device(server, tmp_path, Person(), profile="nobody")
    assert fault.value.code == "not_found"
    assert nothing_left(tmp_path)


def test_an_existing_vault_is_not_touched(server: ThreadServer, tmp_path: Path) -> None:
    code = server.code()
    enrolled_device(server, tmp_path, Person()).close()
    before = (tmp_path / "vault").read_bytes()
    with pytest.raises(VaultExists):
        enrolled_device(server, tmp_path, Person(), enrolment_code=code)
    assert (tmp_path / "vault").read_bytes() == before


def test_an_insecure_address_leaves_nothing_and_holds_no_lock(server: ThreadServer, tmp_path: Path) -> None:
    with pytest.raises(InsecureTransport) as fault:
        enrolled_device(server, tmp_path, Person(), server="http://auth.example:8443")
    assert nothing_left(tmp_path)
    enrolled_device(server, tmp_path, Person()).close()
    assert fault.value.code == "insecure_transport"


def test_a_server_that_is_not_there(server: ThreadServer, tmp_path: Path) -> None:
    code = server.code()
    with pytest.raises(TransportError):
        enrolled_device(server, tmp_path, Person(), enrolment_code=code, server="http://127.0.0.1:9")
    assert nothing_left(tmp_path)
    enrolled_device(server, tmp_path, Person(), enrolment_code=code).close()


def test_one_vault_one_device(server: ThreadServer, tmp_path: Path) -> None:
    shop, person = RelyingParty(), Person()
    device = enrolled_device(server, tmp_path, person)
    with pytest.raises(VaultInUse) as fault:
        Device.open(tmp_path / "vault", vault_key=KeyFile(tmp_path / "vault.key"))
    assert fault.value.advice is Advice.RETRY
    options = shop.creation_options()
    shop.register(options, device.create(options, shop.origin, person.capture()))
    device.close()

    with Device.open(tmp_path / "vault", vault_key=KeyFile(tmp_path / "vault.key")) as again:
        options = shop.request_options()
        shop.authenticate(options, again.get(options, shop.origin, person.capture()))
