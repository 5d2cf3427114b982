"""`tandem-keys verify` and `inspect`: what is found out about a folder that somebody had in his hands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dealers_room import PASSPHRASE, Room, files_of, manifest_of, refused, run, succeeds

from keys.ceremony.checking import check_folder
from keys.ceremony.input_files import CeremonyFolder
from keys.refusal import Refusal
from mpc.primitives import base64url
from mpc.provisioning.manifest import DealtKey, Manifest, SignedManifest
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import MAX_TIME_S, Role, seal_share


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> Room:
    room = Room.furnish(tmp_path_factory.mktemp("dealt"), devices=("alice", "bob"))
    succeeds("generate", *room.options(), "--count", "2", "--operator", "Grace", "--witness", "Alan")
    return room


@pytest.fixture
def folder(dealt: Room, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(dealt.out, tmp_path / "copy"))


def signed_again(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    """What somebody can do who has the folder and a key of his own."""
    manifest = change(manifest_of(folder))
    (folder / "manifest.json").write_bytes(manifest.sign(Ed25519PrivateKey.generate()))


def test_verify_says_what_it_proves_and_whose_key_to_compare(dealt: Room) -> None:
    """A check whose meaning is overestimated is worse than none."""
    fingerprint = SignedManifest.decode((dealt.out / "manifest.json").read_bytes()).fingerprint

    unknown = succeeds("verify", str(dealt.out)).stdout
    known = succeeds("verify", str(dealt.out), "--ceremony-key-fingerprint", fingerprint).stdout
    document = json.loads(succeeds("verify", str(dealt.out), "--json").stdout)

    assert f"{fingerprint}, compare it" in unknown
    assert f"{fingerprint}, as expected" in known
    assert "does not prove" in unknown and "This proves" in unknown
    assert document["verified"] is True and document["ceremony_key"] == fingerprint
    assert document["ceremony_key_compared"] is False and len(document["keys"]) == 4


def test_a_flipped_byte_in_any_file_is_found(folder: Path) -> None:
    """At the beginning, in the middle and at the end of every file."""
    for path, data in files_of(folder).items():
        for at in {0, len(data) // 3, len(data) // 2, len(data) - 2}:
            spoilt = bytearray(data)
            spoilt[at] ^= 1
            (folder / path).write_bytes(spoilt)

            reason, sentence = refused("verify", str(folder))

            assert reason == ("wrong_manifest" if path == "manifest.json" else "altered"), (path, at)
            assert sentence.startswith(path)
        (folder / path).write_bytes(data)
    succeeds("verify", str(folder))


def test_a_missing_file_is_found(folder: Path) -> None:
    """Whichever it is."""
    for path, data in files_of(folder).items():
        (folder / path).unlink()

        assert refused("verify", str(folder))[0] == "missing", path

        (folder / path).write_bytes(data)


def test_exchanged_files_are_found(folder: Path) -> None:
    """Two halves, two recipients, and a half in the place of the other side's."""
    contents = files_of(folder)
    server = [path for path in contents if path.startswith("server/")]
    device = [path for path in contents if path.startswith("device/")]
    recipients = [path for path in contents if path.startswith("recipients/")]
    for one, two in (
        (server[0], server[1]),
        (device[0], device[-1]),
        (recipients[0], recipients[1]),
        (server[0], device[0]),
    ):
        (folder / one).write_bytes(contents[two])
        (folder / two).write_bytes(contents[one])

        assert refused("verify", str(folder))[0] == "altered", (one, two)

        (folder / one).write_bytes(contents[one])
        (folder / two).write_bytes(contents[two])


@pytest.mark.parametrize(
    "path", ["note.txt", "server/extra.share", "device/x/y/z/deep", ".hidden", "recipients/a.json"]
)
def test_an_added_file_is_found(folder: Path, path: str) -> None:
    """Somebody put it there; a holder who imports the whole folder should not meet it."""
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(b"x")

    assert refused("verify", str(folder))[0] == "unlisted"


def test_an_edited_manifest_is_found(folder: Path) -> None:
    """The smallest change of a name, and a change of the key that is said to have signed."""
    manifest = folder / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    values = json.loads(text)
    values["signing_key"] = values["keys"][0]["server"]
    for edited in (text.replace("Grace", "Grade"), json.dumps(values), text[:-3], "", "[]"):
        manifest.write_text(edited, encoding="utf-8")

        assert refused("verify", str(folder))[0] == "wrong_manifest"


def test_a_manifest_signed_with_another_key_shows_its_fingerprint(dealt: Room, folder: Path) -> None:
    """A forger's folder is consistent in itself; only the fingerprint on paper tells."""
    expected = SignedManifest.decode((dealt.out / "manifest.json").read_bytes()).fingerprint
    signed_again(folder, lambda manifest: replace(manifest, witnesses=("Nobody",)))

    assert refused("verify", str(folder), "--ceremony-key-fingerprint", expected)[0] == "other_ceremony_key"

    assert expected not in succeeds("verify", str(folder)).stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: replace(manifest, rp_id="other.example"),
        lambda manifest: replace(manifest, ceremony_id=bytes(16)),
        lambda manifest: replace(manifest, not_after=2_000_000_000),
        lambda manifest: replace(manifest, keys=manifest.keys[:-1]),
        lambda manifest: replace(manifest, recipients=manifest.recipients[:-1]),
        lambda manifest: replace(manifest, files={**manifest.files, "../outside": bytes(32)}),
        lambda manifest: replace(
            manifest,
            keys=(replace(manifest.keys[0], device=manifest.keys[-1].device), *manifest.keys[1:]),
        ),
        lambda manifest: replace(
            manifest,
            keys=(DealtKey(manifest.keys[0].key, manifest.keys[0].device, manifest.keys[0].server), *manifest.keys[1:]),
        ),
    ],
    ids=[
        "rp",
        "ceremony",
        "end",
        "key left out",
        "recipient left out",
        "path outside",
        "other device",
        "roles exchanged",
    ],
)
def test_a_manifest_that_does_not_fit_its_files_is_found(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    """Even properly signed: the halves' own labels must say the same."""
    signed_again(folder, change)

    assert refused("verify", str(folder))[0] == "inconsistent"


def test_two_keys_that_share_a_prime_are_found(folder: Path) -> None:
    """A broken random generator at the dealer shows to everybody who verifies."""
    manifest = manifest_of(folder)
    first, second = manifest.keys[0], manifest.keys[1]
    # 3·N is a modulus that shares all of N's factors; its half needs only a fitting label to get that far.
    shared = PublicKey(first.key.modulus * 3)
    halves = [Path(path) for path in _paths(folder, second.key)]
    replaced = replace(second, key=shared)
    files = dict(manifest.files)
    for path in halves:
        data = (folder / path).read_bytes().replace(second.key.key_id, shared.key_id)
        new = path.with_name(_name(shared))
        (folder / path).unlink()
        (folder / new).write_bytes(data)
        del files[path.as_posix()]
        files[new.as_posix()] = hashlib.sha256(data).digest()
    signed_again(folder, lambda manifest: replace(manifest, keys=(first, replaced, *manifest.keys[2:]), files=files))

    reason, sentence = refused("verify", str(folder))

    assert reason == "shared_factor"
    assert "1 and 2" in sentence


def _name(key: PublicKey) -> str:
    return f"{base64url.encode(key.key_id)}.share"


def _paths(folder: Path, key: PublicKey) -> list[str]:
    return [path for path in files_of(folder) if path.endswith(_name(key))]


def test_links_and_special_files_are_not_read(folder: Path, tmp_path: Path) -> None:
    """A link could point at what the checker may read and the sender may not, a pipe would block."""
    victim = folder / "report.html"
    copy = tmp_path / "outside.html"
    shutil.copy(victim, copy)
    victim.unlink()
    victim.symlink_to(copy)
    assert refused("verify", str(folder))[0] == "not_a_file"
    with pytest.raises(Refusal) as caught:
        CeremonyFolder(folder).read("report.html")
    assert caught.value.reason == "not_a_file"

    victim.unlink()
    os.mkfifo(victim)
    assert refused("verify", str(folder))[0] == "not_a_file"

    victim.unlink()
    shutil.copy(copy, victim)
    shutil.move(folder / "server", tmp_path / "server")
    (folder / "server").symlink_to(tmp_path / "server")
    assert refused("verify", str(folder))[0] == "not_a_file"


def test_a_folder_in_the_place_of_a_file_and_a_huge_file_are_refused(folder: Path) -> None:
    """Neither may crash the check or fill the memory."""
    share = next((folder / "server").iterdir())
    data = share.read_bytes()
    share.unlink()
    share.mkdir()
    assert refused("verify", str(folder))[0] == "not_a_file"

    share.rmdir()
    with share.open("wb") as file:
        file.truncate(1 << 40)
    assert refused("verify", str(folder))[0] == "too_large"

    share.write_bytes(data)
    succeeds("verify", str(folder))


def test_places_that_are_no_ceremony_are_told(tmp_path: Path) -> None:
    """The usual slips at the keyboard."""
    (tmp_path / "file").write_bytes(b"x")

    assert refused("verify", str(tmp_path / "nowhere"))[0] == "missing"
    assert refused("verify", str(tmp_path / "file"))[0] == "not_a_folder"
    assert refused("verify", str(tmp_path / "file" / "below"))[0] == "missing"
    (tmp_path / "file").unlink()
    assert refused("verify", str(tmp_path))[0] == "missing"


def test_a_file_that_changes_after_its_check_is_not_used(folder: Path) -> None:
    """Rewrap reads a half again when it opens it; in between it could have been exchanged."""
    checked = check_folder(
        CeremonyFolder(folder), roles=tuple(Role), expected_fingerprint=None, progress=lambda done, total: None
    )
    path = next(path for path in files_of(folder) if path.startswith("server/"))
    (folder / path).write_bytes(b"x")

    with pytest.raises(Refusal) as caught:
        checked.read_again(path)

    assert caught.value.reason == "changed"


def test_inspect_shows_what_can_be_seen_without_opening(dealt: Room) -> None:
    """Everybody may know what a file is for; nobody learns more from it."""
    manifest = manifest_of(dealt.out)
    key_file = dealt.server.key_file()

    def seen(path: Path) -> dict[str, object]:
        succeeds("inspect", str(path))
        document: dict[str, object] = json.loads(succeeds("inspect", str(path), "--json").stdout)
        return document

    share = seen(next((dealt.out / "device" / dealt.devices[0].recipient.enrolment_id.hex()).iterdir()))
    assert share["role"] == "device" and share["ceremony_id"] == manifest.ceremony_id.hex()
    assert share["recipient"] == dealt.devices[0].recipient.fingerprint
    recipient = seen(dealt.devices[0].file)
    assert recipient["fingerprint"] == dealt.devices[0].recipient.fingerprint and recipient["name"] == "device alice"
    document = seen(dealt.out / "manifest.json")
    assert document["operators"] == ["Grace"] and document["key_count"] == 4
    key = seen(key_file)
    assert "passphrase" in str(key["file"]) and "suite" not in key
    assert PASSPHRASE not in succeeds("inspect", str(key_file)).stdout


def test_inspect_refuses_what_it_does_not_know_and_what_is_damaged(dealt: Room, tmp_path: Path) -> None:
    """A damaged file is not shown as if it were whole."""
    share = next((dealt.out / "server").iterdir()).read_bytes()
    recipient = dealt.server.file.read_bytes()
    cases = {
        b"": "unknown_file",
        b"hello": "unknown_file",
        b"TRKY": "damaged",
        share[:-1]: "damaged",
        b"TSHR\x02": "damaged",
        recipient.replace(b"server server", b"server mallet"): "damaged",
        b"TCEK": "damaged",
    }
    for content, reason in cases.items():
        (tmp_path / "file").write_bytes(content)

        assert refused("inspect", str(tmp_path / "file"))[0] == reason


def test_inspect_of_a_share_that_ends_after_the_last_year_is_refused(dealt: Room, tmp_path: Path) -> None:
    """Its header is not authenticated: anybody can write a time there that no calendar has."""
    half = dealt.server.opens(dealt.out, manifest_of(dealt.out).keys[0])
    file = tmp_path / "file"

    for not_after in (MAX_TIME_S, MAX_TIME_S + 1):
        late = replace(half, not_after=not_after)
        file.write_bytes(seal_share(late, dealt.server.recipient.public_key, dealt.server.recipient.id))
        if not_after == MAX_TIME_S:
            assert "9999-12-31T23:59:59Z" in succeeds("inspect", str(file)).stdout
        else:
            assert refused("inspect", str(file))[0] == "damaged"


def test_inspect_shows_that_a_ceremonys_key_is_one(tmp_path: Path) -> None:
    """And nothing of it."""
    file, passphrase = tmp_path / "team.key", tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE, encoding="utf-8")
    succeeds("ceremony-key", "--out", str(file), "--ceremony-passphrase-file", str(passphrase))

    assert "signs ceremonies" in succeeds("inspect", str(file)).stdout


def test_a_strangers_text_cannot_steer_the_terminal(folder: Path, tmp_path: Path) -> None:
    """Names of files, and the labels of a share that nobody has opened yet, may hold anything."""
    share = next((folder / "server").iterdir()).read_bytes()
    (tmp_path / "file").write_bytes(share.replace(b"login.example.com", b"\x1b[2Jn.example.com"))
    os.symlink("nowhere", folder / "\x1b[2J")
    shown = [run("inspect", str(tmp_path / "file")), run("verify", str(folder))]
    (folder / "\x1b[2J").unlink()
    (folder / "\x1b[2J").write_bytes(b"x")
    shown.append(run("verify", str(folder)))

    assert not [result.output for result in shown if "\x1b" in result.output]
    assert [result.exit_code for result in shown] == [1, 1, 1]
