"""What the dealer refuses before it makes anything, each with its reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dealers_room import PASSPHRASE, Room, files_of, holder, refused, remains_of, run, succeeds

from keys.ceremony.output_folder import OutputFolder
from mpc.primitives.rng import SystemRng
from mpc.provisioning.passphrase_lock import PassphraseLock
from mpc.threshold_rsa.share_package import Role


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room.furnish(tmp_path)


def options(room: Room, **changed: str) -> list[str]:
    wanted = {"server": str(room.server.file), "device": str(room.devices[0].file), "out": str(room.out), **changed}
    return [
        "--not-compared",
        *(part for name, value in wanted.items() for part in (f"--{name}", value)),
        "--rp-id",
        "localhost",
    ]


def test_a_recipient_file_of_the_other_role_is_refused(room: Room) -> None:
    """With the two exchanged, each side would get the half that is not its own."""
    assert refused("generate", *options(room, server=str(room.devices[0].file)))[0] == "other_role"
    assert refused("generate", *options(room, device=str(room.server.file)))[0] == "other_role"
    assert not remains_of(room.out)


def test_devices_of_another_server_are_refused(room: Room) -> None:
    """Such a device could never show its half to the server that has the other."""
    stranger = holder(room.folder / "stranger.json", Role.DEVICE, server_id="elsewhere")

    assert refused("generate", *options(room, device=str(stranger.file)))[0] == "other_server"


def test_two_recipients_of_one_device_are_refused(room: Room) -> None:
    """The older of the two opens nothing any more; which it is, only the holder knows."""
    enrolment_id = room.devices[0].recipient.enrolment_id
    holder(room.folder / "devices" / "again.json", Role.DEVICE, enrolment_id=enrolment_id)

    reason, sentence = refused("generate", *options(room, device=str(room.folder / "devices")))

    assert reason == "duplicate_recipient"
    assert "again.json" in sentence and "alice.json" in sentence


def test_the_same_file_twice_is_refused(room: Room) -> None:
    """A copy under another name is a mistake of whoever collected the files."""
    (room.folder / "devices" / "copy.json").write_bytes(room.devices[0].file.read_bytes())

    assert refused("generate", *options(room, device=str(room.folder / "devices")))[0] == "duplicate_recipient"


def test_an_altered_recipient_file_is_refused(room: Room) -> None:
    """The file signs itself, so a changed name or key shows."""
    text = room.devices[0].file.read_text(encoding="utf-8")
    room.devices[0].file.write_text(text.replace("device alice", "device malice"), encoding="utf-8")

    assert refused("generate", *options(room))[0] == "not_a_recipient"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "not_a_recipient"), (b"{}", "not_a_recipient"), (b" " * 20_000, "too_large")]
)
def test_a_file_that_is_no_recipient_is_refused(room: Room, content: bytes, reason: str) -> None:
    """Whatever lies under the given name."""
    other = room.folder / "other.json"
    other.write_bytes(content)

    assert refused("generate", *options(room, server=str(other)))[0] == reason


def test_missing_and_special_files_are_told_apart(room: Room) -> None:
    """A pipe must not make the command wait for ever, and a missing file is named."""
    os.mkfifo(room.folder / "pipe.json")
    (room.folder / "empty").mkdir()

    assert refused("generate", *options(room, server=str(room.folder / "nowhere.json")))[0] == "missing"
    assert refused("generate", *options(room, server=str(room.folder / "pipe.json")))[0] == "not_a_file"
    assert refused("generate", *options(room, server=str(room.folder)))[0] == "not_a_file"
    assert refused("generate", *options(room, device=str(room.folder / "empty")))[0] == "no_recipients"


def test_a_finished_ceremony_is_never_touched(room: Room) -> None:
    """A second run with the same name must not overwrite keys that are in use."""
    succeeds("generate", *options(room))
    before = files_of(room.out)

    reason, sentence = refused("generate", *options(room))

    assert reason == "out_exists"
    assert "tandem-keys verify" in sentence
    assert files_of(room.out) == before
    assert remains_of(room.out) == ["ceremony"]


def test_an_empty_folder_or_a_dangling_link_at_the_target_is_not_replaced(room: Room) -> None:
    """Somebody made it for a reason."""
    room.out.mkdir()
    link = room.folder / "link"
    link.symlink_to(room.folder / "nowhere")

    assert refused("generate", *options(room))[0] == "out_exists"
    assert refused("generate", *options(room, out=str(link)))[0] == "out_exists"
    assert refused("generate", *options(room, out=str(room.folder / "no" / "parent")))[0] == "out_no_parent"


def test_two_runs_for_one_target_do_not_meet(room: Room) -> None:
    """The second would mix its halves into the first one's folder."""
    with OutputFolder(room.out, print) as first:
        first.write("server/one.share", b"x")

        assert refused("generate", *options(room))[0] == "out_busy"

        assert (first.working_path / "server" / "one.share").read_bytes() == b"x"
    assert not remains_of(room.out)
    succeeds("generate", *options(room))


def test_what_an_interrupted_run_left_is_removed_and_told(room: Room) -> None:
    """Half-made output of a killed run neither stays nor gets into the next ceremony."""
    left = room.out.with_name(".ceremony.part")
    (left / "server").mkdir(parents=True)
    (left / "server" / "old.share").write_bytes(b"x")
    (left / "link").symlink_to(room.server.file)

    result = succeeds("generate", *options(room))

    assert "removed what an interrupted run left" in result.stderr
    assert not [path for path in files_of(room.out) if "old" in path or "link" in path]
    assert room.server.file.exists()
    succeeds("verify", str(room.out))


def test_a_foreign_thing_in_place_of_the_half_made_folder_is_not_followed(room: Room) -> None:
    """A link there could make the command empty somebody else's folder."""
    elsewhere = room.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"x")
    room.out.with_name(".ceremony.part").symlink_to(elsewhere)

    assert refused("generate", *options(room))[0] == "out_busy"
    assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_half_made_folder_that_others_may_enter_is_closed_to_them(room: Room, mode: int) -> None:
    """It gets its name by a rename, so its permissions would be those of the finished ceremony."""
    part = room.out.with_name(".ceremony.part")
    part.mkdir()
    part.chmod(mode)

    succeeds("generate", *options(room))

    assert stat.S_IMODE(room.out.stat().st_mode) == 0o700


def test_a_half_made_folder_of_another_user_is_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """He made it before the run did, and would own the ceremony: he could exchange every file in it."""
    part = room.out.with_name(".ceremony.part")
    part.mkdir()
    if os.geteuid() == 0:
        os.chown(part, 65534, 65534)
    else:
        monkeypatch.setattr("keys.ceremony.output_folder.os.geteuid", lambda: os.getuid() + 1)

    assert refused("generate", *options(room))[0] == "out_foreign"

    assert remains_of(room.out) == [".ceremony.part"] and not list(part.iterdir())


def test_a_strangers_file_name_cannot_steer_the_terminal(room: Room) -> None:
    """A name of a file can clear the screen and write a fingerprint there that was never compared."""
    evil = "\x1b[2J\x1b[Hdone\u202e"
    (room.folder / "odd").mkdir()
    (room.folder / "odd" / f"{evil}.json").write_bytes(b"x")
    (room.folder / "sound").mkdir()
    holder(room.folder / "sound" / f"{evil}.json", Role.DEVICE, name="phone")

    refusing = run("generate", *options(room, device=str(room.folder / "odd")))
    showing = run("generate", *options(room, device=str(room.folder / "sound")))

    assert (refusing.exit_code, showing.exit_code) == (1, 0)
    assert "?[2J?[Hdone?.json" in refusing.stderr and "?[2J?[Hdone?.json" in showing.stderr
    assert not [result.output for result in (refusing, showing) if "\x1b" in result.output or "\u202e" in result.output]
    assert "\x1b" not in (room.out / "report.html").read_text(encoding="utf-8")


def test_a_failing_disk_leaves_nothing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the parent folder does not take new entries; the sentence says so."""
    if os.geteuid() == 0:
        monkeypatch.setattr("os.rename", _no_space)
    else:
        room.folder.chmod(0o500)

    result = run("generate", *options(room))
    room.folder.chmod(0o700)

    assert result.exit_code == 1
    assert "nothing was made" in result.stderr
    assert not remains_of(room.out)


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_only_a_ceremonys_key_under_its_passphrase_signs_a_ceremony(room: Room) -> None:
    """A key in plain PEM too is refused: its fingerprint would be worth as much as the file's permissions."""
    plain, short, locked = (room.folder / name for name in ("plain.pem", "short.key", "team.key"))
    right, wrong = room.passphrase_file(), room.folder / "wrong"
    wrong.write_text("not this one, no", encoding="utf-8")
    signer = Ed25519PrivateKey.generate()
    plain.write_bytes(signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    short.write_bytes(PassphraseLock(b"TCEK", "ceremony_key").close(SystemRng(), bytes(31), PASSPHRASE))
    succeeds("ceremony-key", "--out", str(locked), "--ceremony-passphrase-file", str(right))

    def with_key(file: Path, passphrase: Path = right) -> tuple[str, str]:
        signing = ["--ceremony-key", str(file), "--ceremony-passphrase-file", str(passphrase)]
        return refused("generate", *options(room), *signing)

    for file, said in ((plain, "is not a"), (room.devices[0].key_file(), "is not a"), (short, "does not hold")):
        reason, sentence = with_key(file)
        assert reason == "ceremony_key" and said in sentence and "tandem-keys ceremony-key" in sentence
    assert with_key(room.folder / "nowhere")[0] == "missing"
    reason, sentence = with_key(locked, wrong)
    assert reason == "ceremony_key" and "does not open" in sentence and "not this one" not in sentence
    assert refused("generate", *options(room), "--ceremony-key", str(locked))[0] == "needs_passphrase"
    assert not remains_of(room.out)
    succeeds("generate", *options(room), "--ceremony-key", str(locked), "--ceremony-passphrase-file", str(right))


def test_a_ceremony_key_is_not_overwritten_and_needs_a_real_passphrase(room: Room) -> None:
    """It may be the only copy of a key whose fingerprint is on paper."""
    key_file, passphrase = room.folder / "team.key", room.passphrase_file()
    arguments = ["ceremony-key", "--out", str(key_file), "--ceremony-passphrase-file", str(passphrase)]
    succeeds(*arguments)
    before = key_file.read_bytes()

    assert refused(*arguments)[0] == "out_exists"

    assert key_file.read_bytes() == before
    arguments[2] = str(room.folder / "other.key")
    texts = {
        "eleven char": "bad_passphrase",
        "é" * 11: "bad_passphrase",  # 22 bytes
        "e\u0301" * 11: "bad_passphrase",  # 22 code points
        "": "empty_passphrase",
        "a\nb": "bad_passphrase_file",
    }
    for text, reason in texts.items():
        passphrase.write_text(text, encoding="utf-8")
        assert refused(*arguments)[0] == reason
    passphrase.write_bytes(b"\xff" * 20)
    assert refused(*arguments)[0] == "bad_passphrase"
    assert not (room.folder / "other.key").exists()
