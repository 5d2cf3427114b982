"""`tandem-device` as a person runs it: real processes, vaults, and a real server behind it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

_TESTS = Path(__file__).parent.parent
for _folder in ("state_machine", "end_to_end"):
    if str(_TESTS / _folder) not in sys.path:
        sys.path.append(str(_TESTS / _folder))

from people import Person, enrolled_device  # noqa: E402
from real_server import ThreadServer, thread_server  # noqa: E402
from relying_parties import RelyingParty  # noqa: E402
from state_machine_dealer import Dealt, deal  # noqa: E402

from authsvc.services.template_rotation import issue_rotation_code  # noqa: E402
from device_sdk import Device, KeyFile, Passphrase, VaultKey  # noqa: E402
from device_sdk.cli import app  # noqa: E402
from mpc.primitives.base64url import encode  # noqa: E402
from mpc.provisioning.recipient import Recipient  # noqa: E402
from mpc.provisioning.recipient_key import RecipientKey  # noqa: E402

PASSPHRASE = "a passphrase of ann's"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def run(*arguments: str | Path, typed: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command; where something is typed, in a process of its own."""
    environment, words = {"COLUMNS": "200", "NO_COLOR": "1"}, list(map(str, arguments))
    if typed is not None:
        command = [sys.executable, "-m", "device_sdk", *words]
        environment = {**os.environ, **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, input=typed, timeout=60)
    ended = CliRunner().invoke(app, words, env=environment, prog_name="tandem-device")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    told = [line for line in ended.stderr.splitlines(keepends=True) if not line.startswith("{")]  # the server's logs
    return subprocess.CompletedProcess(words, ended.exit_code, ended.stdout, "".join(told))


def done(*arguments: str | Path, typed: str | None = None) -> str:
    result = run(*arguments, typed=typed)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "" or typed is not None
    return result.stdout


def failed(*arguments: str | Path) -> str:
    """What it says on standard error: one line or two, and no traceback."""
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("tandem-device: ") and "Traceback" not in result.stderr
    assert result.stderr.count("\n") <= 2
    return result.stderr


def enrolled(server: ThreadServer, folder: Path, name: str, person: Person, key: VaultKey | None = None) -> Path:
    vault = folder / f"{name}.vault"
    key = key or KeyFile(folder / f"{name}.key")
    enrolled_device(server, folder, person, vault=vault, vault_key=key).close()
    return vault


def imported(server: ThreadServer, recipients: list[Recipient], folder: Path, which: int) -> tuple[Dealt, list[Path]]:
    """A ceremony that the server has imported, and the devices' files."""
    dealt = deal(server.context, recipients, which=which)
    dealt.import_into(server.context)
    files = [folder / f"{which}-{at}.share" for at in range(len(recipients))]
    for at, file in enumerate(files):
        file.write_bytes(dealt.device_file(at))
    return dealt, files


def test_a_fleet_from_recipients_to_logins(server: ThreadServer, tmp_path: Path) -> None:
    """The whole of the device's side on the command line; then each person registers and signs in three times."""
    people = [Person(1), Person(2)]
    vaults = [enrolled(server, tmp_path, f"phone{at}", person) for at, person in enumerate(people)]

    told = done("recipient", *vaults, "--out", tmp_path / "recipients", "--suite", "mlkem768-x25519")
    documents = sorted((tmp_path / "recipients").iterdir())
    recipients = [Recipient.decode(document.read_bytes()) for document in documents]
    assert [document.stem for document in documents] == [r.enrolment_id.hex() for r in recipients if r.enrolment_id]
    for recipient in recipients:
        assert recipient.fingerprint in told
    by_vault = [
        next(at for at, r in enumerate(recipients) if r.enrolment_id and r.enrolment_id.hex() in line)
        for line in told.splitlines()
    ]
    dealt, files = imported(server, recipients, tmp_path, 0)

    for vault, person, at in zip(vaults, people, by_vault, strict=True):
        key_id = encode(dealt.key_id(at))
        assert done("import-share", vault, files[at]) == f"imported: {key_id} for shop.example, never expires\n"
        assert done("import-share", vault, files[at]).startswith("waits already: ")
        assert key_id in done("provisioned", vault)
        (waiting,) = json.loads(done("provisioned", vault, "--json"))["provisioned"]
        assert (waiting["key_id"], waiting["rp_id"], waiting["not_after"]) == (key_id, "shop.example", None)
        shop = RelyingParty()
        with Device.open(vault, vault_key=KeyFile(vault.with_suffix(".key"))) as device:
            options = shop.creation_options()
            assert shop.register(options, device.create(options, shop.origin, person.capture())) == dealt.key_id(at)
            for _ in range(3):
                options = shop.request_options()
                shop.authenticate(options, device.get(options, shop.origin, person.capture()))
        assert json.loads(done("provisioned", vault, "--json")) == {"provisioned": []}
        (held,) = json.loads(done("credentials", vault, "--json"))["credentials"]
        assert (held["id"], held["sign_count"], held["algorithm"]) == (key_id, 4, "RS256")
        assert key_id in done("credentials", vault)
        assert done("import-share", vault, files[at]).startswith("in use already: ")
        assert done("delete", vault, key_id) == "deleted\n"
        assert json.loads(done("credentials", vault, "--json")) == {"credentials": []}


def test_the_history_of_a_vault(server: ThreadServer, tmp_path: Path) -> None:
    """What a user, or a script for many, looks at to see whether somebody else has signed in."""
    person = Person(9)
    vault = enrolled(server, tmp_path, "phone", person)
    shop = RelyingParty()
    with Device.open(vault, vault_key=KeyFile(vault.with_suffix(".key"))) as device:
        options = shop.creation_options()
        key_id = encode(shop.register(options, device.create(options, shop.origin, person.capture())))
        options = shop.request_options()
        shop.authenticate(options, device.get(options, shop.origin, person.capture()))
        assert device.confirm_now()

    read = json.loads(done("history", vault, "--json"))

    assert [(each["kind"], each["rp_id"], each["credential_id"]) for each in read["logins"]] == [
        (kind, "shop.example", key_id) for kind in ("get", "create")
    ]
    assert all(each["confirmed_at"] >= each["at"] for each in read["logins"])
    assert [event["name"] for event in read["events"]][-2:] == ["credential_added", "enrolled"]
    table = done("history", vault)
    assert table.count("shop.example") == 2 and key_id in table
    assert "login_confirmed" in done("history", vault, "--events")


def test_a_vault_under_a_passphrase(server: ThreadServer, tmp_path: Path) -> None:
    """Asked for, or from a file that is its owner's alone; never an argument, which every user of a machine sees."""
    vault = enrolled(server, tmp_path, "phone", Person(3), Passphrase(PASSPHRASE))
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")

    assert "0600" in failed("provisioned", vault, "--vault-passphrase-file", passphrase)
    passphrase.chmod(0o600)
    from_file = done("recipient", vault, "--out", tmp_path / "r.json", "--vault-passphrase-file", passphrase)
    typed = done("recipient", vault, "--out", tmp_path / "again.json", typed=PASSPHRASE + "\n")

    assert from_file.split()[0] in typed
    assert (tmp_path / "r.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    passphrase.write_text("not the passphrase\n")
    assert "does not open" in failed("provisioned", vault, "--vault-passphrase-file", passphrase)
    passphrase.write_text("\n")
    assert "first line" in failed("provisioned", vault, "--vault-passphrase-file", passphrase)


def test_the_exported_key_is_its_owner_s_alone(server: ThreadServer, tmp_path: Path) -> None:
    """It opens every share that was sealed to the device."""
    vault = enrolled(server, tmp_path, "phone", Person(4))
    passphrase, out = tmp_path / "passphrase", tmp_path / "recipient.key"
    passphrase.write_text("for the safe of the bank\n")
    passphrase.chmod(0o600)

    assert "no recipient" in failed("export-recipient-key", vault, "--out", out, "--passphrase-file", passphrase)
    assert not out.exists()
    done("recipient", vault, "--out", tmp_path / "r.json", "--name", "ann's phone")
    done("export-recipient-key", vault, "--out", out, "--passphrase-file", passphrase)

    opened = RecipientKey.unprotect(out.read_bytes(), "for the safe of the bank")
    assert opened.recipient == Recipient.decode((tmp_path / "r.json").read_bytes())
    assert opened.recipient.name == "ann's phone"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert opened.key.raw.hex() not in (tmp_path / "r.json").read_text()
    passphrase.write_text("short\n")
    new = tmp_path / "new.key"
    assert "12 characters" in failed("export-recipient-key", vault, "--out", new, "--passphrase-file", passphrase)
    assert not new.exists()
    assert RecipientKey.unprotect(out.read_bytes(), "for the safe of the bank") == opened
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_faults_are_one_sentence_that_names_the_file(server: ThreadServer, tmp_path: Path) -> None:
    """A fleet has many files; whoever reads the message must know which of them to look at."""
    vault = enrolled(server, tmp_path, "phone", Person(5))
    share = tmp_path / "wrong.share"
    share.write_bytes(b"something else")

    assert f"{tmp_path / 'no.vault'}: there is no vault" in failed("provisioned", tmp_path / "no.vault")
    assert "is not a vault" in failed("provisioned", share)
    assert "recipient" in failed("import-share", vault, share)
    done("recipient", vault, "--out", tmp_path / "r.json")
    assert f"{share}: this is no share file" in failed("import-share", vault, share)
    assert "cannot be read" in failed("import-share", vault, tmp_path / "none.share")
    assert "renew" in failed("recipient", vault, "--out", tmp_path / "r.json", "--suite", "mlkem768-x25519")
    assert "no key of that id" in failed("delete", vault, "AAAA")
    assert "no key of that id" in failed("delete", vault, "not base64!")
    assert "names and permissions" in failed("recipient", vault, "--out", tmp_path / "no" / "r.json")
    (tmp_path / "other.key").write_bytes(bytes(32))
    (tmp_path / "other.key").chmod(0o600)
    assert "does not open" in failed("provisioned", vault, "--key-file", tmp_path / "other.key")
    with Device.open(vault, vault_key=KeyFile(tmp_path / "phone.key")):
        assert "may succeed later" in failed("provisioned", vault)


def test_what_was_imported_before_a_wrong_file_stays(server: ThreadServer, tmp_path: Path) -> None:
    """The same command is simply given again, with the right file."""
    vault = enrolled(server, tmp_path, "phone", Person(6))
    done("recipient", vault, "--out", tmp_path / "r.json")
    recipient = Recipient.decode((tmp_path / "r.json").read_bytes())
    _, first = imported(server, [recipient], tmp_path, 2)
    later = deal(server.context, [recipient], which=3)
    second = tmp_path / "later.share"
    second.write_bytes(later.device_file())

    result = run("import-share", vault, *first, second)

    assert result.returncode == 1 and result.stdout.startswith("imported: ")
    assert f"{second}: the server holds no half that may be paired" in result.stderr
    later.import_into(server.context)
    told = done("import-share", vault, *first, second).splitlines()
    assert [line.split(":")[0] for line in told] == ["waits already", "imported"]


def test_a_renewed_recipient_has_another_fingerprint(server: ThreadServer, tmp_path: Path) -> None:
    vault = enrolled(server, tmp_path, "phone", Person(7))
    out = tmp_path / "r.json"

    first = done("recipient", vault, "--out", out)
    assert done("recipient", vault, "--out", out) == first
    assert done("recipient", vault, "--out", out, "--renew") != first


def test_no_output_replaces_a_vault_or_a_key(server: ThreadServer, tmp_path: Path) -> None:
    """A name mistyped after --out would cost its owner the vault, or the only key that opens waiting shares."""
    vault = enrolled(server, tmp_path, "phone", Person(8))
    recipient, exported, passphrase = tmp_path / "r.json", tmp_path / "exported.key", tmp_path / "passphrase"
    passphrase.write_text("for the safe of the bank\n")
    passphrase.chmod(0o600)
    export = ("export-recipient-key", vault, "--passphrase-file", passphrase, "--out")
    fingerprint = done("recipient", vault, "--out", recipient).split()[0]
    done(*export, exported)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    names = ("phone.vault", "phone.key", "exported.key", "r.json", "passphrase")
    before = {name: (tmp_path / name).read_bytes() for name in names}

    for name in (*names, "link"):
        assert f"{tmp_path / name}: there is a file of this name" in failed(*export, tmp_path / name)
    for name in ("phone.vault", "phone.key", "exported.key", "passphrase"):
        told = failed("recipient", vault, "--renew", "--out", tmp_path / name)
        assert f"{tmp_path / name}: there is something else of this name" in told

    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert not (tmp_path / "nowhere").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    # The refused renewals have not forgotten the recipient, and its like may be replaced.
    assert done("recipient", vault, "--out", recipient).split()[0] == fingerprint
    assert done("recipient", vault, "--out", recipient, "--renew").split()[0] != fingerprint


def test_a_share_is_checked_by_the_ceremony_s_fingerprint(server: ThreadServer, tmp_path: Path) -> None:
    """What the user was told by the witnesses decides, not the server that is asked next."""
    vault = enrolled(server, tmp_path, "phone", Person(9))
    done("recipient", vault, "--out", tmp_path / "r.json")
    recipient = Recipient.decode((tmp_path / "r.json").read_bytes())
    dealt, (file,) = imported(server, [recipient], tmp_path, 4)
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(dealt.manifest)
    stranger = deal(server.context, [recipient], which=5)
    checked = ("import-share", vault, file, "--manifest", manifest, "--ceremony-key")

    assert "signed by another key" in failed(*checked, stranger.ceremony_key)
    assert "eight groups" in failed(*checked, "ABCD")
    assert "no manifest" in failed("import-share", vault, file, "--ceremony-key", dealt.ceremony_key)
    assert "give both" in failed("import-share", vault, file, "--manifest", manifest)
    assert json.loads(done("provisioned", vault, "--json")) == {"provisioned": []}

    assert done(*checked, dealt.ceremony_key).startswith("imported: ")


def test_after_retirement_no_share_opens_and_a_new_recipient_is_made(server: ThreadServer, tmp_path: Path) -> None:
    """What is not in the vault any more, no thief of the vault can take to a kept copy of the ceremony."""
    vault = enrolled(server, tmp_path, "phone", Person(10))
    told = done("recipient", vault, "--out", tmp_path / "r.json")
    recipient = Recipient.decode((tmp_path / "r.json").read_bytes())
    _, (file,) = imported(server, [recipient], tmp_path, 6)
    done("import-share", vault, file)

    assert done("retire-recipient", vault) == "retired\n"
    assert done("retire-recipient", vault) == "retired\n"

    assert "no recipient" in failed("import-share", vault, file)
    assert len(json.loads(done("provisioned", vault, "--json"))["provisioned"]) == 1
    assert done("recipient", vault, "--out", tmp_path / "r.json") != told


def test_a_template_is_rotated_with_captures_from_files(server: ThreadServer, tmp_path: Path) -> None:
    """The person signs in afterwards; a code that is wrong, or files that are none, change nothing."""
    person = Person(77)
    vault = enrolled(server, tmp_path, "ann", person)
    with Device.open(vault, vault_key=KeyFile(tmp_path / "ann.key")) as device:
        shop = RelyingParty("shop.example")
        options = shop.creation_options()
        shop.register(options, device.create(options, shop.origin, person.capture()))
        enrolment_id, before = device.enrolment_id, device.inspection()
    files = [tmp_path / f"{at}.npy" for at in range(3)]
    for file, captured in zip(files, person.captures(), strict=True):
        np.save(file, captured.bits)
    (tmp_path / "no.npy").write_bytes(b"no capture")
    code = issue_rotation_code(server.context, enrolment_id).code

    assert "no .npy file" in failed("rotate-template", vault, *files[:2], tmp_path / "no.npy", "--code", code)
    assert "three or more" in failed("rotate-template", vault, *files[:2], "--code", code).replace("3", "three")
    assert "one-time code" in failed("rotate-template", vault, *files, "--code", "00000-00000-00000-00000")
    assert done("rotate-template", vault, *files, "--code", code) == "rotated\n"

    with Device.open(vault, vault_key=KeyFile(tmp_path / "ann.key")) as device:
        assert device.inspection() != before and len(device.credentials()) == 1
