"""`authsvc audit` as an operator and an auditor run it, on a log that somebody altered and on one that is whole."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from real_server import process_environment, process_server
from typer.testing import CliRunner, Result

from authsvc.cli import app
from mpc.provisioning.signed_document import normal_fingerprint

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    environment = {**process_environment(tmp_path / "data"), "COLUMNS": "200", "NO_COLOR": "1"}

    def run(*arguments: Any) -> Result:
        return CliRunner().invoke(app, [str(each) for each in arguments], env=environment, prog_name="authsvc")

    return run


@pytest.fixture
def database(run: Run, tmp_path: Path) -> Path:
    """Three codes were issued, and two of the events are signed."""
    for label in ("Ada Lovelace", "Grace Hopper"):
        assert run("code", "--label", label).exit_code == 0
    assert run("audit", "checkpoint").stdout.startswith("checkpoint 1 of ")
    assert run("code", "--label", "Alan Turing").exit_code == 0
    return tmp_path / "data" / "authsvc.db"


def alter(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


def test_a_whole_log_is_told_for_people_and_for_programs(run: Run, database: Path) -> None:
    told, as_json = run("audit", "verify"), run("audit", "verify", "--json")

    assert (told.exit_code, as_json.exit_code) == (0, 0)
    assert "events: 3, chains: 1, checkpoints: 1; signed events: 2" in told.stdout
    assert "the log is whole" in told.stdout
    report = json.loads(as_json.stdout)
    assert (report["ok"], report["events"], report["covered"], report["findings"]) == (True, 3, 2, [])


def test_a_broken_log_exits_with_1_and_names_the_first_place_and_all(run: Run, database: Path) -> None:
    """A cron job looks at the exit code, an auditor at the words."""
    for event_id in (3, 2):
        alter(database, f"UPDATE events SET at = at + 1 WHERE id = {event_id}")

    told, as_json = run("audit", "verify"), run("audit", "verify", "--json")

    assert (told.exit_code, as_json.exit_code) == (1, 1)
    assert "the log is broken, places: 2; the first: the server's own chain: event 2 (id 2)" in told.stdout
    report = json.loads(as_json.stdout)
    assert not report["ok"] and report["found"] == 2 and report["first"]["event_id"] == 2
    assert [(each["kind"], each["seq"]) for each in report["findings"]] == [("event_changed", 2), ("event_changed", 3)]


def test_a_checkpoint_taken_out_of_the_house_shows_an_older_copy(run: Run, database: Path, tmp_path: Path) -> None:
    kept, key = tmp_path / "kept.json", tmp_path / "key.pem"
    copy = database.read_bytes()
    assert "checkpoint 2" in run("audit", "export-checkpoint", "--out", kept).stdout
    fingerprint = run("audit", "key", "--out", key).stdout.strip()
    assert normal_fingerprint(fingerprint) == fingerprint
    genuine = run("audit", "verify", "--since-checkpoint", kept, "--public-key", key)
    assert genuine.exit_code == 0 and fingerprint in genuine.stdout

    database.write_bytes(copy)

    assert run("audit", "verify").exit_code == 0
    rolled_back = run("audit", "verify", "--since-checkpoint", kept, "--public-key", key)
    assert rolled_back.exit_code == 1 and "rolled_back" in rolled_back.stdout


def test_exporting_again_replaces_the_older_file_and_signs_what_is_new(
    run: Run, database: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.json"
    run("audit", "export-checkpoint", "--out", kept)
    run("code", "--label", "one more")
    run("audit", "export-checkpoint", "--out", kept)

    document = json.loads(kept.read_bytes())
    assert (document["number"], document["last_event_id"], document["events"]) == (3, 4, 1)
    assert document["format"] == "tandem audit checkpoint v1"
    assert run("audit", "checkpoint").stdout == "nothing new to sign\n"


@pytest.mark.parametrize("what", ["missing", "no checkpoint", "altered", "of another server"])
def test_a_file_that_is_no_checkpoint_of_this_server_is_refused_in_words(
    run: Run, database: Path, tmp_path: Path, what: str
) -> None:
    kept = tmp_path / "kept.json"
    if what == "no checkpoint":
        kept.write_text("hello")
    elif what == "altered":
        run("audit", "export-checkpoint", "--out", kept)
        kept.write_bytes(kept.read_bytes().replace(b'"events": 1', b'"events": 2'))
    elif what == "of another server":
        run("audit", "export-checkpoint", "--out", kept)
        alter(database, "DELETE FROM audit_checkpoints")
        alter(database, "DELETE FROM server_state WHERE name IN ('audit_key', 'audit_head', 'audit_begun')")
        run("audit", "key")

    result = run("audit", "verify", "--since-checkpoint", kept)

    assert result.exit_code == 1 and str(kept) in result.stderr and "Traceback" not in result.stderr


def test_a_key_file_of_another_kind_is_refused(run: Run, database: Path, tmp_path: Path) -> None:
    for name, content in (
        ("text", b"hello"),
        (
            "p256",
            generate_private_key(SECP256R1())
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        ),
    ):
        (tmp_path / name).write_bytes(content)
        result = run("audit", "verify", "--public-key", tmp_path / name)
        assert result.exit_code == 1 and "no Ed25519 public key" in result.stderr


def test_a_tampered_key_or_checkpoint_is_told_instead_of_signed_over(run: Run, database: Path) -> None:
    alter(database, "UPDATE server_state SET value = x'00' WHERE name = 'audit_key'")
    for command in (("audit", "checkpoint"), ("audit", "key")):
        result = run(*command)
        assert result.exit_code == 1 and "audit verify" in result.stderr and "Traceback" not in result.stderr

    assert run("audit", "verify").exit_code == 1


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit_checkpoints",
        "UPDATE audit_checkpoints SET last_event_id = 1000000",
        "DELETE FROM server_state WHERE name = 'audit_key'",
        "DELETE FROM server_state WHERE name = 'audit_head'",
    ],
)
def test_a_log_that_was_altered_is_not_signed_and_the_operator_is_told_why(
    run: Run, database: Path, tmp_path: Path, statement: str
) -> None:
    """What the server signed would vouch for whatever the tamperer has put there."""
    alter(database, statement)

    for command in (("audit", "checkpoint"), ("audit", "export-checkpoint", "--out", tmp_path / "kept.json")):
        result = run(*command)
        assert result.exit_code == 1 and "the audit log was altered, and nothing is signed" in result.stderr
    assert not (tmp_path / "kept.json").exists()
    assert run("audit", "verify").exit_code == 1


def test_a_fresh_database_holds_key_and_head_before_its_first_checkpoint(run: Run, tmp_path: Path) -> None:
    """Whoever deletes either before anything was signed would otherwise have a log begun anew in his favour."""
    assert run("code", "--label", "Ada Lovelace").exit_code == 0
    database = tmp_path / "data" / "authsvc.db"
    for name in ("audit_key", "audit_head"):
        (tmp_path / "copy").write_bytes(database.read_bytes())
        alter(database, f"DELETE FROM server_state WHERE name = '{name}'")

        assert "nothing is signed" in run("audit", "checkpoint").stderr
        verified = run("audit", "verify")
        assert verified.exit_code == 1 and "checkpoint_key_missing" in verified.stdout
        database.write_bytes((tmp_path / "copy").read_bytes())
    assert run("audit", "verify").exit_code == 0
    assert run("audit", "checkpoint").stdout.startswith("checkpoint 1 of ")


def test_show_filters_and_names_nobody(run: Run, database: Path) -> None:
    everything = json.loads(run("audit", "show", "--json").stdout)["events"]
    newest = json.loads(run("audit", "show", "--limit", 1, "--json").stdout)["events"]

    assert [event["seq"] for event in everything] == [3, 2, 1]
    assert newest == everything[:1] and newest[0]["name"] == "code_issued"
    assert set(newest[0]["detail"]) == {"code_id", "lifetime_s", "by"}
    at = everything[0]["at"]
    for filters, count in (
        (("--name", "code_issued"), 3),
        (("--name", "enrolled"), 0),
        (("--since", repr(at)), 1),
        (("--since", "2020-01-01"), 3),
        (("--since", "2020-01-01T00:00:00Z"), 3),
        (("--enrolment", "61" * 16), 0),
    ):
        assert len(json.loads(run("audit", "show", "--json", *filters).stdout)["events"]) == count, filters
    table = run("audit", "show").stdout
    assert table.count("code_issued") == 3 and "Lovelace" not in table


@pytest.mark.parametrize("wrong", [("--name", "nothing"), ("--since", "yesterday"), ("--enrolment", "abc")])
def test_a_wrong_filter_is_an_error_and_not_an_empty_list(run: Run, database: Path, wrong: tuple[str, str]) -> None:
    result = run("audit", "show", *wrong)
    assert result.exit_code == 1 and result.stderr.startswith("authsvc: ")


def test_a_server_that_is_stopped_leaves_nothing_unsigned_and_one_that_is_killed_nothing_broken(tmp_path: Path) -> None:
    """Both as processes: SIGTERM, then SIGKILL, with the interval far away."""
    environment = process_environment(tmp_path)

    def report() -> dict[str, Any]:
        found = CliRunner().invoke(app, ["audit", "verify", "--json"], env=environment).stdout
        document: dict[str, Any] = json.loads(found)
        return document

    with process_server(tmp_path, TANDEM_AUDIT_CHECKPOINT_S="3600") as server:
        for _ in range(3):
            server.code()
    stopped = report()
    (tmp_path / "ready").unlink()
    with process_server(tmp_path, TANDEM_AUDIT_CHECKPOINT_S="3600") as server:
        server.code()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)
    killed = report()

    # A token to ask with, and three codes; then another token and one code.
    assert (stopped["ok"], stopped["events"], stopped["covered"]) == (True, 4, 4)
    assert (killed["ok"], killed["events"], killed["covered"]) == (True, 6, 4)
