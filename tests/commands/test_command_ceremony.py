"""A device is replaced before it took its half: every step by the commands that people type, with a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import webauthn
from webauthn.helpers.structs import PublicKeyCredentialDescriptor

from device_sdk import Device, KeyFile, SimulatedSensor, TandemError
from relying_party_demo.local_stack import AuthServer, StackError

ORIGIN = "http://localhost:8080"
FINGER = SimulatedSensor(person_seed=11)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthServer]:
    with AuthServer(tmp_path_factory.mktemp("server"), rp_id="localhost") as running:
        yield running


def enrolled(server: AuthServer, folder: Path, name: str) -> Path:
    """A vault, its key file beside it."""
    vault = folder / f"{name}.vault"
    Device.enrol(
        server=server.url,
        enrolment_code=server.operator("code", "--label", name),
        captures=FINGER.captures(3),
        profile="sim-2048",
        vault=vault,
        vault_key=KeyFile(vault.with_suffix(".key")),
    ).close()
    return vault


def run(module: str, *arguments: str | Path, fails: bool = False) -> str:
    """What the command prints on standard output, or on standard error where it is to fail."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    assert (done.returncode != 0) is fails, done.stderr
    return done.stderr if fails else done.stdout


def imported(server: AuthServer, ceremony: Path) -> dict[str, list[str]]:
    fingerprint = json.loads(run("keys", "verify", ceremony, "--json"))["ceremony_key"]
    answer: dict[str, list[str]] = json.loads(
        server.operator("import-shares", str(ceremony), "--ceremony-key", fingerprint, "--json")
    )
    return answer


def half_of(ceremony: Path) -> Path:
    [half] = ceremony.glob("device/*/*.share")
    return half


def test_the_half_of_a_replaced_device_goes_to_its_successor(server: AuthServer, tmp_path: Path) -> None:
    """The old device, its file and its proof are worth nothing afterwards; the new one registers and signs in."""
    old, new = enrolled(server, tmp_path, "old"), enrolled(server, tmp_path, "new")
    server.operator("recipient", "--out", str(tmp_path / "server.json"))
    servers = json.loads(server.operator("recipients", "--json"))["recipients"][-1]["fingerprint"]
    olds, news = (
        run("device_sdk", "recipient", vault, "--out", vault.with_suffix(".json")).split()[0] for vault in (old, new)
    )
    halves = ["--server", tmp_path / "server.json", "--device", tmp_path / "old.json"]
    halves += ["--expect", servers, "--expect", olds]
    run("keys", "generate", *halves, "--rp-id", "localhost", "--out", tmp_path / "first")
    first_signer = json.loads(run("keys", "verify", tmp_path / "first", "--json"))["ceremony_key"]
    [key_id] = imported(server, tmp_path / "first")["new"]
    run("device_sdk", "import-share", old, half_of(tmp_path / "first"))

    passphrase = tmp_path / "passphrase"
    passphrase.write_text("carried by hand to the dealer")
    passphrase.chmod(0o600)
    carried = ["--out", tmp_path / "old.trky", "--passphrase-file", passphrase]
    run("device_sdk", "export-recipient-key", old, *carried)
    successor = ["--key", tmp_path / "old.trky", "--passphrase-file", passphrase, "--to", tmp_path / "new.json"]
    successor += ["--expect", news, "--ceremony-key-fingerprint", first_signer]
    run("keys", "rewrap", tmp_path / "first", *successor, "--out", tmp_path / "second")
    assert imported(server, tmp_path / "second")["rebound"] == [key_id]

    refused = run("device_sdk", "import-share", new, half_of(tmp_path / "first"), fails=True)
    assert "another recipient" in refused
    run("device_sdk", "import-share", new, half_of(tmp_path / "second"))
    assert key_id in run("device_sdk", "provisioned", new, "--json")
    with Device.open(old, vault_key=KeyFile(old.with_suffix(".key"))) as device, pytest.raises(TandemError) as fault:
        register(device)
    assert fault.value.code == "provisioned_key_refused"
    with Device.open(new, vault_key=KeyFile(new.with_suffix(".key"))) as device:
        made = register(device)
        assert made["id"] == key_id
        sign_in_three_times(device, made)
    with pytest.raises(StackError, match="revision"):
        server.operator("import-shares", str(tmp_path / "first"), "--ceremony-key", first_signer)


def register(device: Device) -> dict[str, str]:
    wanted = webauthn.generate_registration_options(rp_id="localhost", rp_name="Demo", user_name="ann")
    made = device.create(webauthn.options_to_json(wanted), ORIGIN, FINGER.capture)
    return {**made, "challenge": wanted.challenge}


def sign_in_three_times(device: Device, made: dict[str, str]) -> None:
    site = {"expected_rp_id": "localhost", "expected_origin": ORIGIN}
    challenge = made.pop("challenge")
    passkey = webauthn.verify_registration_response(credential=made, expected_challenge=challenge, **site)
    count = passkey.sign_count
    for _ in range(3):
        mine = [PublicKeyCredentialDescriptor(id=passkey.credential_id)]
        wanted = webauthn.generate_authentication_options(rp_id="localhost", allow_credentials=mine)
        signed = device.get(webauthn.options_to_json(wanted), ORIGIN, FINGER.capture)
        count = webauthn.verify_authentication_response(
            credential=signed,
            expected_challenge=wanted.challenge,
            credential_public_key=passkey.credential_public_key,
            credential_current_sign_count=count,
            **site,
        ).new_sign_count
