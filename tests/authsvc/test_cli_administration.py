"""The operator's commands as they are typed, one after the other, and what they print."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from test_admin_operations import ALICE, FIRST, SECOND, alice
from typer.testing import CliRunner, Result

from authsvc.app import create_context, prepare_database
from authsvc.cli import app
from authsvc.settings import load_settings
from authsvc.store.credentials import CredentialRow, insert_credential
from authsvc.store.enrolments import insert_enrolment

BOB = b"b" * 16
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    ctx = create_context(load_settings())
    prepare_database(ctx)
    with ctx.store.write() as conn:
        insert_enrolment(conn, alice())
        insert_enrolment(conn, alice(id=BOB, label="Bob [x]", created_at=2.0))
        for key, whose in ((FIRST, ALICE), (SECOND, BOB)):
            insert_credential(
                conn, CredentialRow(key, whose, "localhost", -257, b"\xff" * 256, 65537, b"sealed", "active", 9, 1.0)
            )
    ctx.store.close()
    return lambda *arguments: CliRunner().invoke(app, arguments, prog_name="authsvc")


def done(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_tokens_are_issued_listed_and_revoked(run: Run) -> None:
    text = done(run("token", "issue", "--name", "ops [a]", "--scope", "operator", "--scope", "auditor")).strip()
    (listed,) = json.loads(done(run("tokens", "--json")))["tokens"]

    assert re.fullmatch(r"tandem_[A-Za-z0-9_-]{70}", text)
    assert (listed["name"], listed["scopes"], listed["status"]) == ("ops [a]", ["auditor", "operator"], "active")
    assert text not in json.dumps(listed)
    assert done(run("token", "revoke", listed["id"])) == "revoked\n"
    table = done(run("tokens"))
    assert "ops [a]" in table and "revoked" in table and listed["id"] in table
    assert "Not found" in refused(run("token", "revoke", "00" * 16))
    assert run("token", "issue", "--name", "x", "--scope", "admin").exit_code == 2
    assert "name" in refused(run("token", "issue", "--name", "", "--scope", "auditor"))


def test_people_are_searched_and_paged(run: Run) -> None:
    first = json.loads(done(run("enrolments", "--limit", "1", "--json")))
    second = json.loads(done(run("enrolments", "--limit", "1", "--cursor", first["next_cursor"], "--json")))

    assert [item["label"] for item in first["enrolments"] + second["enrolments"]] == ["Alice", "Bob [x]"]
    assert second["next_cursor"] is None
    table = run("enrolments", "--label", "bob", "--limit", "1")
    assert "Bob [x]" in done(table) and "Alice" not in table.stdout and "more" not in table.stderr
    assert "--cursor" in run("enrolments", "--limit", "1").stderr
    assert json.loads(done(run("enrolments", "--created-from", "2030-01-01", "--json")))["enrolments"] == []
    assert "status" in refused(run("enrolments", "--status", "happy"))
    assert "cursor" in refused(run("enrolments", "--cursor", "x"))
    shown = json.loads(done(run("enrolment", ALICE.hex())))
    assert (shown["label"], len(shown["credentials"])) == ("Alice", 1)


def test_codes_are_listed_and_withdrawn(run: Run) -> None:
    code = done(run("code", "--label", "Carol [c]")).strip()
    (item,) = json.loads(done(run("codes", "--json")))["codes"]

    assert (item["purpose"], item["label"]) == ("enrol", "Carol [c]") and code not in json.dumps(item)
    assert "Carol [c]" in done(run("codes"))
    assert done(run("withdraw-code", item["id"])) == "withdrawn\n"
    assert json.loads(done(run("codes", "--json")))["codes"] == []
    assert "Not found" in refused(run("withdraw-code", "00" * 32))
    assert "code_id" in refused(run("withdraw-code", "zz"))
    assert "code_withdrawn" in done(run("audit", "show", "--name", "code_withdrawn"))


def test_a_rotation_code_is_printed(run: Run) -> None:
    assert re.fullmatch(r"(\w{5}-){3}\w{5}\n", done(run("rotate-template", ALICE.hex())))
    assert re.fullmatch(r"(\w{5}-){3}\w{5}\n", done(run("rotate-template", ALICE.hex(), "--without-match")))
    events = json.loads(done(run("audit", "show", "--enrolment", ALICE.hex(), "--json")))["events"]
    assert [event["detail"]["match"] for event in events] == [False, True]
    assert {event["detail"]["by"] for event in events} == {"command line"}


def test_many_are_revoked_by_file_and_by_relying_party(run: Run, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"# stolen\n{ALICE.hex()}\n{'00' * 16}\n")

    assert "line 3" in refused(run("revoke", "--file", str(listed)))
    assert json.loads(done(run("enrolment", ALICE.hex())))["status"] == "active"
    told = done(run("revoke", "--file", str(listed), "--ignore-unknown"))
    assert told == "revoked: 1, revoked before: 0, unknown: 1\n"
    assert done(run("revoke", ALICE.hex(), ALICE.hex().upper())) == "revoked: 0, revoked before: 1, unknown: 0\n"
    assert "--file" in refused(run("revoke"))

    counted = done(run("revoke-relying-party", "localhost"))
    assert counted.startswith("would be revoked: 1 credentials of 1 enrolments\n")
    value = counted.split("--confirm ")[1].strip()
    assert "does not fit" in refused(run("revoke-relying-party", "localhost", "--confirm", "0" * 12))
    told = done(run("revoke-relying-party", "localhost", "--confirm", value))
    assert told == "revoked: 1 credentials of 1 enrolments\n"
    assert json.loads(done(run("enrolment", BOB.hex())))["credentials"][0]["status"] == "revoked"


def test_data_are_exported_and_erased(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "alice.json"
    assert done(run("export", ALICE.hex(), "--out", str(out))) == f"written: {out}\n"
    assert json.loads(out.read_text())["enrolment"]["label"] == "Alice"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "exists already" in refused(run("export", ALICE.hex(), "--out", str(out)))
    assert json.loads(done(run("export", BOB.hex())))["format"] == "tandem-export-1"

    assert "--confirm" in refused(run("erase", ALICE.hex()))
    assert "does not fit" in refused(run("erase", ALICE.hex(), "--confirm", BOB.hex()))
    assert done(run("erase", ALICE.hex(), "--confirm", ALICE.hex())) == "erased\n"
    assert "Not found" in refused(run("enrolment", ALICE.hex()))
    events = json.loads(done(run("audit", "show", "--enrolment", ALICE.hex(), "--json")))["events"]
    assert events[0]["name"] == "enrolment_erased"
