"""The provisioning commands as an operator runs them: files, terminals, mistakes, and a kill at any moment."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from authsvc_dealer import Dealt, deal, device_recipient, enrol, everything, number_like_a_key
from typer.testing import CliRunner, Result

from authsvc.app import create_context, prepare_database
from authsvc.cli import app
from authsvc.services import recipients
from authsvc.services.context import ServiceContext
from authsvc.settings import load_settings
from authsvc.store.credentials import CredentialRow, insert_credential
from mpc.primitives import base64url
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.recipient_key import RecipientKey

ALICE = b"a" * 16
PASSPHRASE = "a passphrase for tests"

Run = Callable[..., Result]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return {
        **kept,
        "TANDEM_DATA_DIR": str(tmp_path / "data"),
        "TANDEM_ALLOWED_RP_IDS": '["shop.example"]',
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str | Path, **extra: str) -> Result:
        for name in [name for name in os.environ if name not in environment]:
            monkeypatch.delenv(name)
        given = [str(argument) for argument in arguments]
        return CliRunner().invoke(app, given, env={**environment, **extra}, prog_name="authsvc")

    return run


@pytest.fixture
def ctx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceContext]:
    """The same server's tools, for looking at what the commands did."""
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)
    context = create_context(load_settings(data_dir=tmp_path / "data", allowed_rp_ids=["shop.example"]))
    prepare_database(context)
    enrol(context, ALICE)
    yield context
    context.store.close()


def dealt(run: Run, count: int = 2, **arguments: object) -> Dealt:
    """A ceremony for the recipient that the command exported."""
    server = Recipient.decode(run("recipient").stdout.encode())
    phone = device_recipient(ALICE, server_id="tandem")[1]
    return deal(server, lambda _: phone, [number_like_a_key() for _ in range(count)], **arguments)  # type: ignore[arg-type]


def imported_rows(ctx: ServiceContext) -> list[tuple[object, ...]]:
    return everything(ctx)["credentials"]


class TestRecipients:
    def test_the_document_and_the_fingerprint_come_apart(self, run: Run) -> None:
        first, again = run("recipient", "--name", "rack 7"), run("recipient")

        assert first.exit_code == again.exit_code == 0, first.stderr
        assert first.stdout == again.stdout
        recipient = Recipient.decode(first.stdout.encode())
        assert recipient.name == "rack 7"
        assert first.stderr == f"fingerprint: {recipient.fingerprint}\n"

    def test_into_a_file_and_another_suite(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "server.json"
        file.write_text(run("recipient").stdout)

        done = run("recipient", "--suite", "mlkem768-x25519", "--out", file)

        assert (done.exit_code, done.stdout) == (0, "")
        recipient = Recipient.decode(file.read_bytes())
        assert recipient.public_key.suite.value == "mlkem768-x25519"
        listed = json.loads(run("recipients", "--json").stdout)["recipients"]
        assert [item["suite"] for item in listed] == ["x25519", "mlkem768-x25519"]
        assert recipient.fingerprint in run("recipients").stdout
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []

    def test_only_a_recipient_file_is_written_over(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        """The key-encryption key lies in the same folder, and without it the database is worthless."""
        kek = tmp_path / "data" / "kek"
        before = kek.read_bytes()
        for out in (kek, tmp_path / "data", tmp_path / "data" / "authsvc.db"):
            done = run("recipient", "--out", out)
            assert done.exit_code == 1 and "no recipient file" in done.stderr
        assert kek.read_bytes() == before
        assert run("recipients").exit_code == 0

    def test_a_new_one_only_when_asked(self, run: Run) -> None:
        one = run("recipient").stdout
        assert run("recipient", "--new").stdout not in (one, "")
        assert run("recipient").stdout != one
        refused = run("recipient", "--name", "other")
        assert (refused.exit_code, refused.stdout) == (1, "") and "--new" in refused.stderr

    def test_exporting_the_private_key_and_retiring(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        fingerprint = Recipient.decode(run("recipient").stdout.encode()).fingerprint
        passphrase, out = tmp_path / "passphrase", tmp_path / "recipient.key"
        passphrase.write_text(PASSPHRASE + "\nnot this line\n")
        passphrase.chmod(0o600)

        done = run("export-recipient-key", fingerprint, "--out", out, "--passphrase-file", passphrase)

        assert done.exit_code == 0, done.stderr
        assert RecipientKey.unprotect(out.read_bytes(), PASSPHRASE).recipient.fingerprint == fingerprint
        assert out.stat().st_mode & 0o777 == 0o600
        content = out.read_bytes()
        events = [event for event in everything(ctx)["events"] if "recipient_key_exported" in event]
        assert len(events) == 1

        again = run("export-recipient-key", fingerprint, "--out", out, "--passphrase-file", passphrase)
        assert again.exit_code == 1 and "exists already" in again.stderr
        assert out.read_bytes() == content
        assert len([event for event in everything(ctx)["events"] if "recipient_key_exported" in event]) == 1

        assert run("retire-recipient", fingerprint).exit_code == 0
        assert recipients.current(ctx) is None
        late = run("export-recipient-key", fingerprint, "--out", tmp_path / "x", "--passphrase-file", passphrase)
        assert late.exit_code == 1 and "retired" in late.stderr
        assert not (tmp_path / "x").exists()

    def test_a_passphrase_that_others_can_read_or_that_nobody_can_type(self, run: Run, tmp_path: Path) -> None:
        fingerprint = Recipient.decode(run("recipient").stdout.encode()).fingerprint
        passphrase, out = tmp_path / "passphrase", tmp_path / "recipient.key"
        passphrase.write_text(PASSPHRASE)
        passphrase.chmod(0o644)
        open_to_all = run("export-recipient-key", fingerprint, "--out", out, "--passphrase-file", passphrase)
        passphrase.chmod(0o600)
        passphrase.write_text("short")
        weak = run("export-recipient-key", fingerprint, "--out", out, "--passphrase-file", passphrase)
        passphrase.write_text("e\u0301" * 6)  # twelve characters as typed, six that count
        composed = run("export-recipient-key", fingerprint, "--out", out, "--passphrase-file", passphrase)
        unasked = run("export-recipient-key", fingerprint, "--out", out)

        for done, told in (
            (open_to_all, "chmod 600"),
            (weak, "12 characters"),
            (composed, "12 characters"),
            (unasked, "terminal"),
        ):
            assert done.exit_code == 1 and told in done.stderr
            assert isinstance(done.exception, SystemExit)
            assert PASSPHRASE not in done.stderr and "Traceback" not in done.stderr
        assert not out.exists()


class TestImporting:
    def test_with_the_fingerprint_given_and_again(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder = dealt(run)
        place = folder.write(tmp_path / "ceremony")

        first = run("import-shares", place, "--ceremony-key", folder.fingerprint)
        again = run("import-shares", place, "--ceremony-key", folder.fingerprint, "--json")

        assert first.exit_code == 0, first.stderr
        assert "new: 2, known: 0, rebound: 0" in first.stdout
        assert "recipients compared by the dealer: by telephone" in first.stdout
        own = recipients.current(ctx)
        assert own is not None and f"authsvc retire-recipient {own.recipient.fingerprint}" in first.stderr
        assert json.loads(again.stdout) == {
            "ceremony_id": folder.manifest.ceremony_id.hex(),
            "revision": 0,
            "recipients_compared": "by telephone",
            "server_recipients": [recipients.current(ctx).recipient.fingerprint],  # type: ignore[union-attr]
            "new": [],
            "known": [base64url.encode(key_id) for key_id in folder.key_ids],
            "rebound": [],
            "revoked": [],
            "displaced": [],
        }
        assert len(imported_rows(ctx)) == 2

    def test_a_taken_id_is_told(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder = dealt(run)
        row = CredentialRow(
            folder.key_ids[0], ALICE, "shop.example", -257, b"\xff" * 256, 65537, b"sealed", "provisional", 0, 1.0
        )
        with ctx.store.write() as conn:
            insert_credential(conn, row)
        done = run("import-shares", folder.write(tmp_path / "ceremony"), "--ceremony-key", folder.fingerprint)
        assert done.exit_code == 0 and "for 1 of the new" in done.stdout and "credential_displaced" in done.stdout

    def test_with_the_fingerprint_pinned(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder = dealt(run)
        pinned = json.dumps([folder.fingerprint.lower()])
        done = run("import-shares", folder.write(tmp_path / "ceremony"), TANDEM_CEREMONY_KEYS=pinned)
        assert done.exit_code == 0, done.stderr
        assert len(imported_rows(ctx)) == 2

    def test_pinned_to_another_key_nobody_is_asked(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder, other = dealt(run), dealt(run)
        pinned = json.dumps([other.fingerprint])
        done = run("import-shares", folder.write(tmp_path / "ceremony"), TANDEM_CEREMONY_KEYS=pinned)
        assert done.exit_code == 1 and folder.fingerprint in done.stderr and "--ceremony-key" in done.stderr
        assert imported_rows(ctx) == []

    def test_without_a_terminal_it_says_what_to_do(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder = dealt(run)
        done = run("import-shares", folder.write(tmp_path / "ceremony"))
        assert done.exit_code == 1 and folder.fingerprint in done.stderr and "--ceremony-key" in done.stderr
        assert imported_rows(ctx) == []

    @pytest.mark.parametrize(("answer", "rows"), [("y", 2), ("n", 0), ("", 0)])
    def test_at_a_terminal_it_asks(
        self, run: Run, tmp_path: Path, ctx: ServiceContext, environment: dict[str, str], answer: str, rows: int
    ) -> None:
        """A person compares the fingerprint; just pressing the key is no."""
        folder = dealt(run)
        place = folder.write(tmp_path / "ceremony")
        master, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "authsvc", "import-shares", str(place)],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        os.close(terminal)
        os.write(master, answer.encode() + b"\n")
        _, errors = process.communicate(timeout=60)
        os.close(master)

        assert folder.fingerprint.encode() in errors and b"witnesses" in errors
        assert (process.returncode == 0) == (rows > 0)
        assert len(imported_rows(ctx)) == rows

    def test_mistakes_are_explained(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder = dealt(run)
        place = folder.write(tmp_path / "ceremony")
        key = ("--ceremony-key", folder.fingerprint)
        pipe = tmp_path / "pipes"
        pipe.mkdir()
        os.mkfifo(pipe / "manifest.json")
        (tmp_path / "empty").mkdir()

        for arguments, told in (
            (("import-shares", tmp_path / "nowhere", *key), "no folder"),
            (("import-shares", tmp_path / "empty", *key), "manifest.json: is missing"),
            (("import-shares", pipe, *key), "not a regular file"),
            (("import-shares", place, "--ceremony-key", "x"), "ceremony_key"),
            (("provisioned", "--ceremony", "zz"), "ceremony"),
            (("revoke-keys",), "give one of"),
            (("revoke-keys", "--key-id", "x"), "--key-id 1"),
            (("revoke-keys", "--file", tmp_path / "nowhere"), "cannot read"),
            (("revoke-keys", "--ceremony", "00" * 16), "nothing of the ceremony"),
        ):
            done = run(*arguments)
            assert done.exit_code == 1 and told in done.stderr, arguments
            assert "Traceback" not in done.stderr
        (place / "server" / "note.txt").write_text("hello")
        extra = run("import-shares", place, *key)
        assert extra.exit_code == 1 and "server/note.txt: is not part of this ceremony" in extra.stderr
        assert imported_rows(ctx) == []


class TestInventoryAndRevocation:
    def test_what_is_listed_and_revoked(self, run: Run, tmp_path: Path, ctx: ServiceContext) -> None:
        folder = dealt(run, 4, not_after=int(time.time()) + 3600)
        run("import-shares", folder.write(tmp_path / "ceremony"), "--ceremony-key", folder.fingerprint)
        ids = [base64url.encode(key_id) for key_id in folder.key_ids]

        listed = json.loads(run("provisioned", "--json").stdout)["provisioned"]
        table = run("provisioned", "--ceremony", folder.manifest.ceremony_id.hex()).stdout
        assert {item["key_id"] for item in listed} == set(ids)
        assert {
            (item["status"], item["enrolment_id"], item["expired"], item["not_after"], item["ceremony_id"])
            for item in listed
        } == {("provisioned", ALICE.hex(), False, folder.manifest.not_after, folder.manifest.ceremony_id.hex())}
        assert all(key_id in table for key_id in ids)

        one = run("revoke-keys", f"--key-id={ids[0]}")
        assert "revoked: 1, revoked before: 0, unknown: 0" in one.stdout
        names = tmp_path / "lost.txt"
        names.write_text(f"# lost\n{ids[0]}\n{ids[1]}\n{'A' * 43}\n")
        refused = run("revoke-keys", "--file", names)
        assert refused.exit_code == 1 and "line 4" in refused.stderr
        assert statuses(run) == {ids[0]: "revoked", **dict.fromkeys(ids[1:], "provisioned")}
        passed = run("revoke-keys", "--file", names, "--ignore-unknown")
        assert "revoked: 1, revoked before: 1, unknown: 1" in passed.stdout
        rest = run("revoke-keys", "--ceremony", folder.manifest.ceremony_id.hex())
        assert "revoked: 2, revoked before: 2, unknown: 0" in rest.stdout
        assert statuses(run) == dict.fromkeys(ids, "revoked")
        both = run("revoke-keys", "--file", names, "--ceremony", folder.manifest.ceremony_id.hex())
        assert both.exit_code == 1


def statuses(run: Run) -> dict[str, str]:
    listed = json.loads(run("provisioned", "--json").stdout)["provisioned"]
    return {item["key_id"]: item["status"] for item in listed}


class TestKilled:
    KEYS = 300

    def test_a_kill_at_any_moment_leaves_all_or_nothing_and_a_rerun_finishes(
        self, run: Run, tmp_path: Path, ctx: ServiceContext, environment: dict[str, str]
    ) -> None:
        """Kills spread over the whole run of the command, the transaction above all."""
        folder = dealt(run, self.KEYS)
        place = folder.write(tmp_path / "ceremony")
        command = [sys.executable, "-m", "authsvc", "import-shares", str(place), "--ceremony-key", folder.fingerprint]
        before = {**everything(ctx), "credentials": []}
        started = time.monotonic()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        whole_s = time.monotonic() - started
        full = everything(ctx)
        assert len(full["credentials"]) == self.KEYS
        generator, seen, log = random.Random(1), set(), ctx.store

        for _ in range(6):
            with log.write() as conn:  # as before the first import
                for table in ("credentials", "ceremonies"):
                    conn.exec_driver_sql(f"DELETE FROM {table}")
                conn.exec_driver_sql("DELETE FROM events WHERE name = 'shares_imported'")
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            # Most of the time goes into starting Python; the end is where something can be half done.
            time.sleep(whole_s * generator.uniform(0.5, 1.0))
            process.send_signal(signal.SIGKILL)
            process.communicate()

            found = everything(ctx)
            count = len(found["credentials"])
            assert count in (0, self.KEYS)
            assert len(found["ceremonies"]) == (count > 0)
            assert len(found["events"]) - len(before["events"]) == (count > 0)
            seen.add((process.returncode, count))

        assert (-signal.SIGKILL, 0) in seen, "no kill came in time"
        rerun = subprocess.run([*command, "--json"], env=environment, check=True, capture_output=True)
        done = json.loads(rerun.stdout)
        assert len(done["new"]) + len(done["known"]) == self.KEYS
        shares = {row[0]: row[7] for row in everything(ctx)["credentials"]}
        assert set(shares) == set(folder.key_ids) and set(shares.values()) == {"provisioned"}

    def test_killed_inside_the_transaction(
        self, run: Run, tmp_path: Path, ctx: ServiceContext, environment: dict[str, str]
    ) -> None:
        """The same without luck: the process kills itself after the n-th row."""
        folder = dealt(run, 20)
        place = folder.write(tmp_path / "ceremony")
        before = everything(ctx)
        program = (
            "import os, signal, sys\n"
            "from authsvc.services import dealt_keys\n"
            "from authsvc.cli import main\n"
            "insert, left = dealt_keys.insert_credential, int(sys.argv.pop())\n"
            "def counted(conn, row):\n"
            "    global left\n"
            "    insert(conn, row)\n"
            "    left -= 1\n"
            "    if left == 0:\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "dealt_keys.insert_credential = counted\n"
            "main()\n"
        )
        arguments = ["import-shares", str(place), "--ceremony-key", folder.fingerprint]
        for rows in (1, 10, 20):
            command = [sys.executable, "-c", program, *arguments, str(rows)]
            killed = subprocess.run(command, env=environment, check=False, capture_output=True)
            assert killed.returncode == -signal.SIGKILL
            assert everything(ctx) == before
        assert "new: 20" in run(*arguments).stdout
