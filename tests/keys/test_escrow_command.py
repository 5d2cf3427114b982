"""`tandem-keys escrow` as people use it: files, a real terminal, and processes that are killed."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import pty
import re
import secrets
import select
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_dealer import killed_before_change
from typer.testing import CliRunner

from keys.escrow.cli import app

NAMES = ("Ann", "Bob", "Chloé")
_CODE = "from keys.escrow.cli import app; app()"
_WORDS = re.compile(r"----- words -----(.*?)----- end of words -----", re.DOTALL)


@pytest.fixture
def kek(tmp_path: Path) -> Path:
    path = tmp_path / "kek"
    path.write_bytes(secrets.token_bytes(32))
    return path


def run(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    with contextlib.chdir(folder):
        ended = CliRunner().invoke(app, arguments, input=stdin, prog_name="tandem-keys escrow")
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return subprocess.CompletedProcess(arguments, ended.exit_code, ended.stdout, ended.stderr)


def split(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    who = [argument for name in NAMES for argument in ("--custodian", name)]
    return run(folder, "split", "kek", "--threshold", "2", *who, *more)


def sheets_in(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


def words_of(text: str) -> list[str]:
    found = _WORDS.search(text)
    assert found is not None
    cells = found[1].split()
    return [word for _, word in sorted(zip(map(int, cells[::2]), cells[1::2], strict=True))]


def failed(done: subprocess.CompletedProcess[str], text: str) -> None:
    assert done.returncode == 1 and done.stdout == ""
    assert text in done.stderr and "Traceback" not in done.stderr


class Terminal:
    """A process whose input and output are a terminal."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm"}
            environment |= {"PYTHONUTF8": "1", "COLUMNS": "200"}
            os.execve(sys.executable, [sys.executable, "-c", _CODE, *arguments], environment)
        self.shown, self._read = "", 0
        # What is read at once may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def until(self, text: str) -> str:
        """What appeared since the last call, up to and with this text."""
        deadline, start = time.monotonic() + 60, self._read
        while (found := self.shown.find(text, start)) < 0:
            assert time.monotonic() < deadline, self.shown[start:]
            if select.select([self._master], [], [], 1)[0]:
                self.shown += self._decoder.decode(os.read(self._master, 65536))
        self._read = found + len(text)
        return self.shown[start : self._read]

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def end(self) -> int:
        """The exit code, after reading the rest."""
        try:
            while data := os.read(self._master, 65536):
                self.shown += self._decoder.decode(data)
        except OSError:  # the other end is closed
            pass
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def test_sheets_are_split_rehearsed_and_recovered(tmp_path: Path, kek: Path) -> None:
    done = split(tmp_path, "--sheets", "sheets")
    assert done.returncode == 0, done.stderr
    sheets = sheets_in(tmp_path / "sheets")
    assert [Path(path).name for path in sheets] == ["01-ann.txt", "02-bob.txt", "03-chlo.txt"]
    assert {stat.S_IMODE(os.stat(path).st_mode) for path in sheets} == {0o600}
    assert stat.S_IMODE((tmp_path / "sheets").stat().st_mode) == 0o700
    before = sorted(os.listdir(tmp_path))

    rehearsed = run(tmp_path, "rehearse", "--record", "escrow-record.json", sheets[2], sheets[0])
    assert rehearsed.returncode == 0 and rehearsed.stdout == "these lists give the key back: Chloé, Ann\n"
    assert sorted(os.listdir(tmp_path)) == before, "a rehearsal writes nothing"

    recovered = run(tmp_path, "recover", "--record", "escrow-record.json", "--out", "back", *sheets)
    assert recovered.returncode == 0, recovered.stderr
    assert (tmp_path / "back").read_bytes() == kek.read_bytes()
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o600


def test_no_output_holds_the_key_or_a_list(tmp_path: Path, kek: Path) -> None:
    """Terminals are recorded and pipes are kept: with --sheets, words are in the sheets and nowhere else."""
    done = split(tmp_path, "--sheets", "sheets")
    sheets = sheets_in(tmp_path / "sheets")
    lists = [words_of(Path(path).read_text(encoding="utf-8")) for path in sheets]
    damaged = tmp_path / "damaged"
    damaged.write_text(" ".join([*lists[0][:10], "zzzz", *lists[0][11:]]), encoding="utf-8")
    reports = [
        done,
        run(tmp_path, "rehearse", "--record", "escrow-record.json", *sheets),
        run(tmp_path, "rehearse", "--record", "escrow-record.json", sheets[0]),
        run(tmp_path, "rehearse", "--record", "escrow-record.json", sheets[0], str(damaged)),
        run(tmp_path, "rehearse", "--record", "escrow-record.json", stdin=" ".join(lists[0]) + "\nzzzz\n"),
        run(tmp_path, "recover", "--record", "escrow-record.json", "--out", "no/such/place", *sheets),
    ]
    shown = "".join(report.stdout + report.stderr for report in reports)
    shown += (tmp_path / "escrow-record.json").read_text(encoding="utf-8")

    key = kek.read_bytes()
    assert key.hex() not in shown and str(int.from_bytes(key, "big")) not in shown
    for words in lists:
        for at in range(len(words) - 1):
            assert f"{words[at]} {words[at + 1]}" not in shown
        assert sum(word in shown.split() for word in set(words[4:])) < 4


def test_without_a_terminal_words_are_not_shown(tmp_path: Path, kek: Path) -> None:
    failed(split(tmp_path), "give --sheets DIR")
    assert os.listdir(tmp_path) == ["kek"]


def test_on_a_terminal_one_custodian_after_the_other_sees_his_words(tmp_path: Path, kek: Path) -> None:
    terminal = Terminal(tmp_path, "split", "kek", "--threshold", "2", *(a for n in NAMES for a in ("--custodian", n)))
    lists = []
    for name in NAMES:
        waiting = terminal.until("Enter shows the words.")
        assert name in waiting and "----- words" not in waiting
        assert not (tmp_path / "escrow-record.json").exists(), "the record says that all have seen their words"
        terminal.type("")
        screen = terminal.until("Enter clears the screen.")
        assert screen.count("----- words -----") == 1 and "\x1b[?1049h" in screen
        lists.append(words_of(screen))
        terminal.type("")
        terminal.until("\x1b[?1049l")
    assert terminal.end() == 0
    assert (tmp_path / "escrow-record.json").exists() and sorted(os.listdir(tmp_path)) == ["escrow-record.json", "kek"]

    typed = "\n".join((*lists[2], *lists[1])) + "\n"
    rehearsed = run(tmp_path, "rehearse", "--record", "escrow-record.json", stdin=typed)
    assert rehearsed.stdout == "these lists give the key back: Chloé, Bob\n", rehearsed.stderr


def test_typed_words_are_hidden_and_mistakes_can_be_put_right(tmp_path: Path, kek: Path) -> None:
    split(tmp_path, "--sheets", "sheets")
    lists = [words_of(Path(path).read_text(encoding="utf-8")) for path in sheets_in(tmp_path / "sheets")]

    terminal = Terminal(tmp_path, "rehearse", "--record", "escrow-record.json")
    terminal.until("list 1, from word 1: ")
    terminal.type(" ".join(lists[0][:5]) + " zzzz")
    terminal.until("word 6 is not in the word list; go on from this word")
    terminal.until("list 1, from word 6: ")
    terminal.type(" ".join([*lists[0][5:32], "academic" if lists[0][32] != "academic" else "acid"]))
    terminal.until("type the whole list again")
    terminal.until("list 1, from word 1: ")
    terminal.type(" ".join(word[:4] for word in lists[0]))
    terminal.until("list 2, from word 1: ")
    terminal.type(" ".join(lists[1]))
    assert terminal.end() == 0

    assert "these lists give the key back: Ann, Bob" in terminal.shown
    assert lists[0][10] + " " + lists[0][11] not in terminal.shown and " ".join(lists[1][5:7]) not in terminal.shown


def test_an_ended_input_ends_the_command(tmp_path: Path, kek: Path) -> None:
    split(tmp_path, "--sheets", "sheets")
    failed(run(tmp_path, "recover", "--record", "escrow-record.json", "--out", "back"), "the input ended")
    assert not (tmp_path / "back").exists()


def test_failures_are_told_and_leave_nothing(tmp_path: Path, kek: Path) -> None:
    split(tmp_path, "--sheets", "sheets")
    sheets = sheets_in(tmp_path / "sheets")
    out = ("--record", "escrow-record.json", "--out", "back")

    failed(run(tmp_path, "recover", *out, sheets[0]), "1 lists are not enough: 2 are needed")
    failed(run(tmp_path, "recover", *out, sheets[0], sheets[0]), "is the same custodian's as")
    failed(run(tmp_path, "recover", *out, sheets[0], "missing"), "does not exist")
    failed(run(tmp_path, "recover", "--record", "kek", "--out", "back", *sheets), "not an escrow record")
    failed(run(tmp_path, "recover", "--record", "escrow-record.json", "--out", "kek", *sheets), "is not overwritten")
    assert not (tmp_path / "back").exists() and len(kek.read_bytes()) == 32


def test_lists_of_an_older_escrow_are_refused(tmp_path: Path, kek: Path) -> None:
    """After the key was changed, old and new sheets lie in the same safe."""
    split(tmp_path, "--sheets", "old", "--record", "old.json")
    kek.write_bytes(secrets.token_bytes(32))
    split(tmp_path, "--sheets", "new", "--record", "new.json")
    old, new = sheets_in(tmp_path / "old"), sheets_in(tmp_path / "new")

    failed(run(tmp_path, "rehearse", "--record", "new.json", new[0], old[1]), "belongs to another escrow")


@pytest.mark.parametrize("size", [0, 31, 33, 44])
def test_a_file_of_another_size_is_no_key(tmp_path: Path, kek: Path, size: int) -> None:
    kek.write_bytes(bytes(size))
    failed(split(tmp_path, "--sheets", "sheets"), "does not hold exactly 32 bytes")
    assert os.listdir(tmp_path) == ["kek"]


def test_an_existing_record_or_folder_is_not_overwritten(tmp_path: Path, kek: Path) -> None:
    split(tmp_path, "--sheets", "sheets")
    record = (tmp_path / "escrow-record.json").read_bytes()

    failed(split(tmp_path, "--sheets", "more"), "is not overwritten")
    failed(split(tmp_path, "--sheets", "sheets", "--record", "more.json"), "sheets exists")
    assert (tmp_path / "escrow-record.json").read_bytes() == record
    assert sorted(os.listdir(tmp_path)) == ["escrow-record.json", "kek", "sheets"]


def test_a_record_that_cannot_be_written_leaves_no_sheets(tmp_path: Path, kek: Path) -> None:
    failed(split(tmp_path, "--sheets", "sheets", "--record", "no/such/record"), "is not a folder")
    assert os.listdir(tmp_path) == ["kek"]


def test_a_split_killed_before_any_of_its_changes_leaves_no_list_unnoticed(tmp_path: Path, kek: Path) -> None:
    """A forgotten sheet is a custodian's list on a disk: the next run removes it or names it."""
    killed = published = 0
    for number in itertools.count(1):
        work = tmp_path / str(number)
        work.mkdir()
        sheets, record = work / "sheets", work / "record.json"
        arguments = ["split", str(kek), "--threshold", "2", "--custodian", "Ann", "--custodian", "Bob"]
        arguments += ["--record", str(record), "--sheets", str(sheets)]
        if not killed_before_change(number, work, ["escrow", *arguments]):
            break
        killed += 1
        if record.exists():
            assert sheets.exists(), "the record says that the lists were made"
            rehearsed = run(work, "rehearse", "--record", str(record), *sheets_in(sheets))
            assert rehearsed.returncode in (0, 1)
            if rehearsed.returncode == 1:  # killed between the record's creation and its content
                assert record.read_bytes() == b""
                arguments[arguments.index(str(record))] = str(work / "other.json")
                failed(run(work, *arguments), f"{sheets} exists, but not the record of its lists")
                continue
        elif sheets.exists():
            published += 1
            failed(run(work, *arguments), f"{sheets} exists, but not the record of its lists")
            shutil.rmtree(sheets)
        if not record.exists():
            again = run(work, *arguments)
            assert again.returncode == 0, again.stderr
        assert sorted(os.listdir(work)) == ["record.json", "sheets"]
        assert run(work, "rehearse", "--record", str(record), *sheets_in(sheets)).returncode == 0
    assert killed >= 6 and published >= 1


def test_a_record_that_cannot_be_written_after_the_sheets_names_them(tmp_path: Path, kek: Path) -> None:
    """Here its folder takes no more files; the sheets hold the key and must not be forgotten."""
    code = (
        "import os; real = os.open\n"
        "def full(path, flags, *more, **named):\n"
        "    if 'escrow-record' in str(path) and flags & os.O_CREAT: raise OSError(28, 'No space left on device')\n"
        "    return real(path, flags, *more, **named)\n"
        "os.open = full\n"
    )
    arguments = ["split", "kek", "--threshold", "2", "--custodian", "A", "--custodian", "B", "--sheets", "sheets"]
    done = subprocess.run(
        [sys.executable, "-c", code + _CODE, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    failed(done, "No space left on device. sheets exists, but not the record of its lists")
    assert not (tmp_path / "escrow-record.json").exists()
