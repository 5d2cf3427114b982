"""`tandem-keys escrow`: word lists for custodians of the server's key-encryption key, their rehearsal, and recovery.

Words reach the program from files and prompts, never as arguments, which every user of the machine could see.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from keys.ceremony.input_files import read_input
from keys.ceremony.output_folder import OutputFolder
from keys.escrow.sheets import MAX_SHEET_BYTES, read_sheet, sheet, sheet_name
from keys.escrow.word_lists import (
    ESCROWED_KEY_BYTES,
    MAX_CUSTODIANS,
    MAX_RECORD_BYTES,
    MIN_THRESHOLD,
    WORDS_IN_LIST,
    EscrowRecord,
    WordList,
    custodians_of,
    known_word,
    recover_key,
    split_key,
)
from keys.refusal import Refusal, printable
from keys.terminal import tell

app = typer.Typer(
    name="escrow",
    help="Word lists (SLIP-39) for custodians of the server's key-encryption key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# The alternate screen has no scroll-back, so the words are gone from the terminal when it is left.
_ENTER_SCREEN, _LEAVE_SCREEN = "\x1b[?1049h\x1b[2J\x1b[H", "\x1b[2J\x1b[3J\x1b[H\x1b[?1049l"

RecordToRead = Annotated[Path, typer.Option("--record", help="The record that split wrote.")]
Sheets = Annotated[list[Path] | None, typer.Argument(help="Sheets, or files with the words alone. None: type them.")]
Visible = Annotated[bool, typer.Option("--visible", help="Show the words while they are typed.")]


@app.command()
def split(
    kek_file: Annotated[Path, typer.Argument(help="The key-encryption key of authsvc: a file of 32 bytes.")],
    threshold: Annotated[int, typer.Option(help="How many lists give the key back.", min=MIN_THRESHOLD, max=16)],
    custodian: Annotated[list[str], typer.Option(help="A custodian's name; repeat it for each one.")],
    record: Annotated[Path, typer.Option(help="Where to write the record; nothing in it is secret.")] = Path(
        "escrow-record.json"
    ),
    sheets: Annotated[
        Path | None, typer.Option(help="Write a file for each custodian into this new folder, and show nothing.")
    ] = None,
) -> None:
    """Split the key among custodians: show each his words, one after the other, on the terminal."""
    with _errors_for_operators():
        if sheets is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise Refusal("no_terminal", "words are shown on a terminal only; give --sheets DIR to write them to files")
        if sheets is not None:
            _refuse_sheets_without_record(sheets, record)
        _refuse_existing(record)
        key = read_input(kek_file, at_most=MAX_SHEET_BYTES)
        if len(key) != ESCROWED_KEY_BYTES:
            raise Refusal("not_a_kek", f"{printable(str(kek_file))} does not hold exactly {ESCROWED_KEY_BYTES} bytes")
        made, lists = split_key(key, threshold=threshold, custodians=custodian, now=int(time.time()))
        del key
        if sheets is not None:
            _write_sheets(sheets, record, made, lists)
        else:
            _show_lists(made, lists)
            _write_new(record, made.encode())
    tell(f"record written: {record}")
    tell("Now rehearse: `tandem-keys escrow rehearse` shows that the custodians' own lists give the key back.")


@app.command()
def rehearse(record: RecordToRead, sheets: Sheets = None, visible: Visible = False) -> None:
    """Prove that lists give the key back, in memory only: nothing is written."""
    with _errors_for_operators():
        known = _read_record(record)
        lists = _lists(known, sheets, visible=visible)
        recover_key(known, lists)
    typer.echo(f"these lists give the key back: {', '.join(custodians_of(known, lists))}")


@app.command()
def recover(
    record: RecordToRead,
    out: Annotated[Path, typer.Option(help="Where to write the key; must not exist.")],
    sheets: Sheets = None,
    visible: Visible = False,
) -> None:
    """Write the key to a file, after a real loss."""
    with _errors_for_operators():
        _refuse_existing(out)
        known = _read_record(record)
        lists = _lists(known, sheets, visible=visible)
        _write_new(out, recover_key(known, lists))
    typer.echo(f"key written: {out}")
    tell("These lists have now been seen together: split the key anew once the server runs.")


def _write_sheets(folder: Path, record_path: Path, record: EscrowRecord, lists: Sequence[WordList]) -> None:
    with OutputFolder(folder, tell) as output:
        for position, word_list in enumerate(lists):
            output.write(sheet_name(record, position), sheet(record, position, word_list.words).encode("utf-8"))
        output.publish()
    # The record comes last: while it is missing, the split was interrupted, and the next run finds what is left of it.
    try:
        _write_new(record_path, record.encode())
    except OSError as error:
        raise Refusal("record_not_written", f"{record_path}: {error.strerror}. {_without_record(folder)}") from None
    tell(f"{len(lists)} sheets written to {folder}")
    tell(f"Whoever has {record.threshold} of them has the key: print them, hand them over, destroy the files.")


def _refuse_sheets_without_record(sheets: Path, record: Path) -> None:
    if os.path.lexists(sheets) and not os.path.lexists(record):
        raise Refusal("sheets_without_record", _without_record(sheets))


def _without_record(sheets: Path) -> str:
    return (
        f"{sheets} exists, but not the record of its lists. If it holds the sheets of an interrupted split, destroy "
        "them and split again; else give another folder"
    )


def _show_lists(record: EscrowRecord, lists: Sequence[WordList]) -> None:
    for position, word_list in enumerate(lists):
        name = record.custodians[position]
        _wait_for_enter(f"{name} ({position + 1} of {len(lists)}): only you look at the screen. Enter shows the words.")
        # Not through print: no layer between keeps a copy of the words or wraps them.
        sys.stdout.write(_ENTER_SCREEN)
        try:
            sys.stdout.write(sheet(record, position, word_list.words))
            _wait_for_enter("Write them down, compare twice. Enter clears the screen.")
        finally:
            sys.stdout.write(_LEAVE_SCREEN)
            sys.stdout.flush()


def _wait_for_enter(text: str) -> None:
    sys.stdout.write(text + " ")
    sys.stdout.flush()
    if not sys.stdin.readline():
        raise Refusal("interrupted", "the input ended before all custodians saw their words; nothing was written")


def _read_record(path: Path) -> EscrowRecord:
    return EscrowRecord.decode(read_input(path, at_most=MAX_RECORD_BYTES))


def _lists(record: EscrowRecord, sheets: list[Path] | None, *, visible: bool) -> list[WordList]:
    if sheets:
        if len(sheets) > MAX_CUSTODIANS:
            raise Refusal("too_many", f"there are never more than {MAX_CUSTODIANS} lists")
        return [read_sheet(printable(str(path)), read_input(path, at_most=MAX_SHEET_BYTES)) for path in sheets]
    return [_typed_list(f"list {at}", visible=visible) for at in range(1, record.threshold + 1)]


def _typed_list(label: str, *, visible: bool) -> WordList:
    """On a terminal a mistake is told and typed again; elsewhere it ends the command."""
    attended = sys.stdin.isatty()
    tell(f"{label}: {WORDS_IN_LIST} words, one or more a line; the first four letters of each are enough")
    words: list[str] = []
    while True:
        try:
            if len(words) >= WORDS_IN_LIST:
                return WordList.read(label, words)
            typed = _typed_line(f"{label}, from word {len(words) + 1}: ", visible=visible).split()
            for word in typed:
                if known_word(word) is None:
                    raise Refusal("unknown_word", f"{label}: word {len(words) + 1} is not in the word list")
                words.append(word)
        except Refusal as refusal:
            if not attended or refusal.reason == "interrupted":
                raise
            if refusal.reason == "unknown_word":
                tell(f"{refusal}; go on from this word")
            else:
                tell(f"{refusal}; type the whole list again")
                words = []


def _typed_line(prompt: str, *, visible: bool) -> str:
    if sys.stdin.isatty() and not visible:
        try:
            return getpass.getpass(prompt, stream=sys.stderr)
        except EOFError:
            raise _interrupted() from None
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise _interrupted()
    return line


def _interrupted() -> Refusal:
    return Refusal("interrupted", "the input ended before all words were typed; nothing was written")


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise Refusal("out_exists", f"{path} exists and is not overwritten; give another name")
    if not path.parent.is_dir():
        raise Refusal("out_no_parent", f"{path.parent} is not a folder; make it first")


def _write_new(path: Path, data: bytes) -> None:
    """A file that did not exist, for its owner alone, on disk when this returns. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _errors_for_operators() -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        tell(f"error: {refusal}")
    except OSError as error:
        tell(f"error: {printable(str(error.filename or 'file'))}: {error.strerror}")
    else:
        return
    raise typer.Exit(1)
