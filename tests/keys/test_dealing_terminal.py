"""The command as somebody at a terminal meets it: questions, hidden passphrases, a progress bar."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dealers_room import (
    PASSPHRASE,
    Room,
    checkout,
    command,
    environment,
    holder,
    manifest_of,
    remains_of,
    signer_of,
    succeeds,
)

from mpc.threshold_rsa.share_package import Role


class Terminal:
    """A process with a terminal of its own, which a test reads and types into."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            # A test run that was started in the background hands down "ignore Ctrl-C".
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        self.process = subprocess.Popen(
            command(*arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=checkout(),
            env={**environment(), "TERM": "xterm", "COLUMNS": "150"},
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert self._read(deadline), self.shown

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode() + b"\n")

    def end(self) -> int:
        deadline = time.monotonic() + 60
        while self._read(deadline):
            pass
        os.close(self._ours)
        return self.process.wait(timeout=60)

    def _read(self, deadline: float) -> bool:
        """Whether something came; False at the end of the process's output."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"the command is silent; it showed: {self.shown}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


def test_a_person_confirms_the_fingerprints(tmp_path: Path) -> None:
    """The one step that shows an exchanged recipient file; the manifest says that it was done."""
    room = Room.furnish(tmp_path)

    terminal = Terminal("generate", *room.asking())
    terminal.wait_for("[yes/no]")
    assert all(who.recipient.fingerprint in terminal.shown for who in (room.server, *room.devices))
    assert not remains_of(room.out)
    terminal.type("yes")

    assert terminal.end() == 0, terminal.shown
    assert manifest_of(room.out).parameters["recipients compared"] == "confirmed at the terminal"
    assert "for the witnesses to write down" in terminal.shown


def test_at_an_import_with_a_folder_the_names_of_files_are_confirmed_too(tmp_path: Path) -> None:
    """The name decides which key a device gets, so the person must see it beside the fingerprint."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    files = []
    for who in room.devices:
        files.append(str(tmp_path / f"{who.file.stem}.pem"))
        key = rsa.generate_private_key(65537, 2048)
        Path(files[-1]).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    terminal = Terminal("import", *files, *room.asking())
    terminal.wait_for("Did the holders of these names read out exactly these? [yes/no]")
    assert all(f"{who.file.name}: {who.recipient.fingerprint}" in terminal.shown for who in room.devices)
    terminal.type("no")

    assert terminal.end() == 1
    assert not remains_of(room.out)


def test_before_a_rewrap_a_person_confirms_who_signed_the_replaced_folder(tmp_path: Path) -> None:
    """The new signature vouches for the old folder; the manifest says that somebody looked."""
    room = Room.furnish(tmp_path)
    succeeds("generate", *room.options())
    new, passphrase = holder(tmp_path / "server2.json", Role.SERVER), room.passphrase_file()
    arguments = ["rewrap", str(room.out), "--key", str(room.server.key_file()), "--to", str(new.file)]
    arguments += ["--out", str(tmp_path / "next"), "--passphrase-file", str(passphrase)]
    arguments += ["--expect", new.recipient.fingerprint]

    for answer in ("no", "yes"):
        assert not remains_of(tmp_path / "next")
        terminal = Terminal(*arguments)
        terminal.wait_for("Did the witnesses write down exactly this? [yes/no]")
        assert signer_of(room.out) in terminal.shown
        terminal.type(answer)
        assert terminal.end() == (0 if answer == "yes" else 1), terminal.shown

    parameters = manifest_of(tmp_path / "next").parameters
    assert parameters["replaced manifest compared"] == "confirmed at the terminal"


def test_anything_but_yes_makes_nothing(tmp_path: Path) -> None:
    """An Enter in a hurry is no confirmation."""
    room = Room.furnish(tmp_path)
    for answer in ("no", "", "y"):
        terminal = Terminal("generate", *room.asking())
        terminal.wait_for("[yes/no]")
        terminal.type(answer)

        assert terminal.end() == 1
        assert "were not confirmed" in terminal.shown
        assert not remains_of(room.out)


def test_expected_fingerprints_need_no_question(tmp_path: Path) -> None:
    """Whoever typed them has compared them."""
    room = Room.furnish(tmp_path)
    expected = [part for who in (room.server, *room.devices) for part in ("--expect", who.recipient.fingerprint)]

    terminal = Terminal("generate", *room.asking(), *expected)

    assert terminal.end() == 0, terminal.shown
    assert "[yes/no]" not in terminal.shown


def test_ctrl_c_at_the_question_ends_with_one_line(tmp_path: Path) -> None:
    """The terminal's own way of saying no."""
    room = Room.furnish(tmp_path)

    terminal = Terminal("generate", *room.asking())
    terminal.wait_for("[yes/no]")
    os.write(terminal._ours, b"\x03")

    assert terminal.end() == 130
    assert "interrupted; nothing was made" in terminal.shown and "Traceback" not in terminal.shown
    assert not remains_of(room.out)


def test_a_passphrase_is_asked_for_twice_and_never_shown(tmp_path: Path) -> None:
    """Who looks over a shoulder sees nothing, and a slip of the finger does not lock the key for ever."""
    key_file = tmp_path / "team.key"

    def make(first: str, second: str) -> tuple[int, str]:
        terminal = Terminal("ceremony-key", "--out", str(key_file))
        terminal.wait_for("Passphrase of")
        terminal.type(first)
        terminal.wait_for("again:")
        terminal.type(second)
        return terminal.end(), terminal.shown

    code, shown = make(PASSPHRASE, PASSPHRASE + ".")
    assert code == 1 and "differ" in shown and not key_file.exists()
    code, shown = make(PASSPHRASE, PASSPHRASE)
    assert code == 0 and PASSPHRASE not in shown

    room = Room.furnish(tmp_path)
    terminal = Terminal("generate", *room.asking(), "--ceremony-key", str(key_file))
    terminal.wait_for("Passphrase of")
    terminal.type(PASSPHRASE)
    terminal.wait_for("[yes/no]")
    terminal.type("yes")
    assert terminal.end() == 0
    assert PASSPHRASE not in terminal.shown
    succeeds("verify", str(room.out))


def test_progress_is_shown_while_keys_are_dealt(tmp_path: Path) -> None:
    """Thousands of keys take minutes, in which people want to see that something happens."""
    room = Room.furnish(tmp_path)

    terminal = Terminal("generate", *room.asking(), "--count", "40", "--processes", "2")
    terminal.wait_for("[yes/no]")
    terminal.type("yes")

    assert terminal.end() == 0
    counts = {int(found) for found in re.findall(r"(\d+)/40", terminal.shown)}
    assert len(counts) > 2 and max(counts) <= 40
