"""Keys at rest as an operator meets them: settings, `authsvc rotate-kek`, `authsvc make-kek`, and what is refused."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from key_tokens import new_token
from transit_service import TOKEN, TransitService
from typer.testing import CliRunner, Result

from authsvc.app import create_app
from authsvc.cli import app
from authsvc.settings import SettingsError, load_settings

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "vault_transit.py"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(tmp_path / "policy.toml"))
    (tmp_path / "policy.toml").touch()

    def run(*arguments: str, policy: str = "") -> Result:
        (tmp_path / "policy.toml").write_text(policy)
        return CliRunner().invoke(app, arguments, prog_name="authsvc")

    return run


@pytest.fixture
def transit(tmp_path: Path) -> Iterator[TransitService]:
    (tmp_path / "token").write_text(TOKEN)
    service = TransitService()
    yield service
    service.close()


def key_file(path: Path) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32))
    return path


def good(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def refused(result: Result, told: str) -> None:
    """One sentence, no stack."""
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    assert told in " ".join(result.stderr.split()) and "Traceback" not in result.output


def command_table(name: str, transit: TransitService, folder: Path, version: int) -> str:
    argv = [sys.executable, str(EXAMPLE), transit.url, "tandem", str(version), str(folder / "token")]
    return f"{name} = {{ argv = {json.dumps(argv)}, limit_s = 4.0 }}\n"


def test_from_a_file_to_a_key_service_to_its_next_version_and_back_to_a_file(
    run: Run, transit: TransitService, tmp_path: Path
) -> None:
    """The way into a key service, and the way out of one that is given up."""
    old, last = tmp_path / "data" / "kek", key_file(tmp_path / "last")
    good(run("recipient", "--out", str(tmp_path / "r.json")))
    first = command_table("kek_command", transit, tmp_path, 1)
    second = command_table("kek_command", transit, tmp_path, 2)
    steps = [
        f'{first}[[kek_previous]]\nfile = "{old}"\n',
        f"{second}[[kek_previous]]\n{command_table('command', transit, tmp_path, 1)}",
        f'kek_file = "{last}"\n[[kek_previous]]\n{command_table("command", transit, tmp_path, 2)}',
    ]
    retired = set()
    for policy in steps:
        done = json.loads(good(run("rotate-kek", "--json", policy=policy)).stdout)
        assert done["rewrapped"] == 2 and len(done["retired"]) == 1 and done["unreadable"] == []
        retired |= set(done["retired"])
        refused(run("rotate-kek", policy=policy), "take it out of kek_previous")
        again = good(run("rotate-kek", policy=policy.partition("[[kek_previous]]")[0]))
        assert "wrapped again: 0" in again.stdout
    assert len(retired) == 3
    alone = f'kek_file = "{last}"\n'
    good(run("recipients", policy=alone))
    good(
        run(
            "export-recipient-key",
            fingerprint(run, alone),
            "--out",
            str(tmp_path / "out"),
            *passphrase(tmp_path),
            policy=alone,
        )
    )
    refused(run("recipients", policy=f'kek_file = "{old}"\n'), "was retired by a rotation")
    refused(run("recipients", policy=first), "was retired by a rotation")


def fingerprint(run: Run, policy: str) -> str:
    return str(json.loads(run("recipients", "--json", policy=policy).stdout)["recipients"][0]["fingerprint"])


def passphrase(folder: Path) -> tuple[str, str]:
    path = folder / "passphrase"
    path.touch(mode=0o600)
    path.write_text("correct horse battery staple\n")
    return "--passphrase-file", str(path)


@pytest.mark.softhsm2
def test_from_a_file_into_a_token(run: Run, tmp_path: Path) -> None:
    """The commands of docs/operations.md, in their order."""
    token = new_token(tmp_path)
    (tmp_path / "pin").touch(mode=0o600)
    (tmp_path / "pin").write_text(token.pin + "\n")
    good(run("recipient", "--out", str(tmp_path / "r.json")))
    table = (
        f'[kek_pkcs11]\nmodule = "{token.module}"\ntoken = "{token.label}"\nkey = "KEY"\n'
        f'pin_file = "{tmp_path / "pin"}"\n'
    )
    one, two = table.replace("KEY", "kek-2026"), table.replace("KEY", "kek-2027")
    previous = f'[[kek_previous]]\nfile = "{tmp_path / "data" / "kek"}"\n'
    refused(run("rotate-kek", policy=one + previous), "make one with authsvc make-kek")
    good(run("make-kek", policy=one))
    refused(run("make-kek", policy=one), "exists already")
    refused(run("recipients", policy=one), "not the one this database was sealed with")
    done = good(run("rotate-kek", policy=one + previous))
    assert "wrapped again: 2" in done.stdout
    good(run("recipients", policy=one))
    refused(run("recipients"), "was retired by a rotation")
    refused(run("migrate", "--down", "0002", policy=one), "rotate to one of those first")

    good(run("make-kek", policy=two))
    (tmp_path / "pin").chmod(0o644)
    refused(run("recipients", policy=one), "chmod 600")
    (tmp_path / "pin").chmod(0o600)
    inner = one.replace("[kek_pkcs11]", "[kek_previous.pkcs11]").replace("[kek_prev", "[[kek_previous]]\n[kek_prev")
    good(run("rotate-kek", policy=two + inner))
    refused(run("recipients", policy=one), "was retired by a rotation")
    good(run("recipients", policy=two))


def test_a_key_service_that_is_down_is_a_sentence(run: Run, transit: TransitService, tmp_path: Path) -> None:
    policy = command_table("kek_command", transit, tmp_path, 1)
    good(run("migrate", policy=policy))
    good(run("recipients", policy=policy))
    transit.status = 503
    refused(run("recipients", policy=policy), "ended with status 1")
    refused(run("recipients", policy='kek_command = { argv = ["/nowhere/kms"] }'), "cannot be started")


def test_readiness_tells_when_the_key_service_is_down(
    run: Run, transit: TransitService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of it reaches a stranger but yes or no."""
    monkeypatch.setattr("authsvc.key_port.health.ASKED_EVERY_S", 0.0)
    monkeypatch.setattr("authsvc.services.readiness.KEPT_S", 0.0)
    (tmp_path / "policy.toml").write_text(command_table("kek_command", transit, tmp_path, 1))
    with TestClient(create_app(load_settings())) as client:
        assert client.get("/readyz").json() == {
            "status": "ready",
            "checks": {"database": True, "migrations": True, "key_port": True},
        }
        transit.status = 503
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]["key_port"]) == (503, False)
        assert answer.json()["checks"]["database"] and client.get("/healthz").status_code == 200
        transit.status = None
        assert client.get("/readyz").status_code == 200


def test_a_rotation_that_meets_an_altered_row_says_whose_it_is(run: Run, tmp_path: Path) -> None:
    """The old key is still needed then, and must not be destroyed."""
    import sqlite3

    good(run("recipient", "--out", str(tmp_path / "r.json")))
    with sqlite3.connect(tmp_path / "data" / "authsvc.db") as raw:
        raw.execute("UPDATE data_keys SET wrapped = zeroblob(60) WHERE length(owner_id) = 32")
        owner = raw.execute("SELECT hex(owner_id) FROM data_keys WHERE length(owner_id) = 32").fetchone()[0].lower()
    raw.close()
    new = key_file(tmp_path / "new")
    policy = f'kek_file = "{new}"\n[[kek_previous]]\nfile = "{tmp_path / "data" / "kek"}"\n'
    result = run("rotate-kek", "--json", policy=policy)
    assert json.loads(result.stdout)["unreadable"] == [owner] and json.loads(result.stdout)["retired"] == []
    refused(result, owner)


class TestSettings:
    @pytest.mark.parametrize(
        "policy, told",
        [
            ('kek_file = "a"\nkek_command = { argv = ["/bin/x"] }', "not both"),
            ('kek_command = { argv = ["kms"] }', "absolute path"),
            ("kek_command = { argv = [] }", "argv"),
            ('kek_command = { argv = ["/bin/x"], limit_s = 60 }', "limit_s"),
            ('kek_pkcs11 = { module = "/m", token = "t", key = "k" }', "pin_file"),
            ("[[kek_previous]]\n", "exactly one"),
            ('[[kek_previous]]\nfile = "a"\nkey = "b"\n', "exactly one"),
            ('[[kek_previous]]\nfile = "a"\nother = "b"\n', "other"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, run: Run, policy: str, told: str) -> None:
        refused(run("config", policy=policy), told)

    def test_previous_keys_are_never_made_and_never_shown(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A misspelt path must not become a fresh key that opens nothing."""
        secret = base64.b64encode(os.urandom(32)).decode()
        monkeypatch.setenv("TANDEM_KEK_PREVIOUS", json.dumps([{"key": secret}, {"file": str(tmp_path / "gone")}]))
        shown = good(run("config")).stdout
        assert secret not in shown and "(hidden)" in shown
        (tmp_path / "data").mkdir()
        with pytest.raises(SettingsError, match="cannot use"):
            load_settings().key_wrappers()
        assert not (tmp_path / "gone").exists()
        key_file(tmp_path / "gone")
        first, from_setting, from_file = load_settings().key_wrappers()
        assert len({first.key_id, from_setting.key_id, from_file.key_id}) == 3
