"""Two servers of one database, as two hosts behind a balancer: a device may meet either at any time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import webauthn
from state_machine_databases import database_url, new_database, postgresql_is_reachable
from webauthn.helpers.structs import PublicKeyCredentialDescriptor

from device_sdk import Device, HttpTransport, KeyFile, SimulatedSensor

pytestmark = pytest.mark.skipif(not postgresql_is_reachable(), reason="PostgreSQL not reachable")

ORIGIN = "http://localhost:8080"
SITE = {"expected_rp_id": "localhost", "expected_origin": ORIGIN}
FINGER = SimulatedSensor(person_seed=3)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    new_database(tmp_path, "postgresql")
    url = database_url(tmp_path).render_as_string(hide_password=False)
    ours = {"TANDEM_DATA_DIR": str(tmp_path / "data"), "TANDEM_DATABASE_URL": url}
    return {**{name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}, **ours}


@contextmanager
def serving(environment: dict[str, str], ready: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    serve = [sys.executable, "-m", "authsvc", "serve", "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(serve, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < give_up
            time.sleep(0.05)
        yield ready.read_text().strip(), process
    finally:
        process.kill()
        process.wait()


def test_a_device_is_served_by_whichever_it_meets_and_by_one_when_the_other_is_killed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Enrolment, registration and confirmations are shared: nothing of a login lives in a process."""
    with (
        serving(environment, tmp_path / "one") as (one, first),
        serving(environment, tmp_path / "two") as (two, _),
    ):
        command = [sys.executable, "-m", "authsvc", "code", "--label", "ann"]
        code = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        place = {"vault": tmp_path / "vault", "vault_key": KeyFile(tmp_path / "vault.key")}
        captures = FINGER.captures(3)
        Device.enrol(server=one, enrolment_code=code, captures=captures, profile="sim-2048", **place).close()
        with Device.open(**place, transport=HttpTransport(two)) as device:
            wanted = webauthn.generate_registration_options(rp_id="localhost", rp_name="Demo", user_name="ann")
            made = device.create(webauthn.options_to_json(wanted), ORIGIN, FINGER.capture)
            passkey = webauthn.verify_registration_response(
                credential=made, expected_challenge=wanted.challenge, **SITE
            )
        count = passkey.sign_count
        for address in (one, two, one, two, two):
            if address == two and count > 4:
                first.kill()
            with Device.open(**place, transport=HttpTransport(address)) as device:
                mine = [PublicKeyCredentialDescriptor(id=passkey.credential_id)]
                wanted = webauthn.generate_authentication_options(rp_id="localhost", allow_credentials=mine)
                signed = device.get(webauthn.options_to_json(wanted), ORIGIN, FINGER.capture)
            count = webauthn.verify_authentication_response(
                credential=signed,
                expected_challenge=wanted.challenge,
                credential_public_key=passkey.credential_public_key,
                credential_current_sign_count=count,
                **SITE,
            ).new_sign_count
        assert count == 6
