"""The person at the dealer's machine: lines, questions, progress, passphrases.

Results go to standard output, everything else to standard error, so that `--json` stays readable to programs.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keys.ceremony.input_files import read_input
from keys.refusal import Refusal, printable

_MAX_PASSPHRASE_BYTES = 1024
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """A line on standard error. Names in it may be a stranger's."""
    _err.print(printable(text), markup=False)


def is_attended() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirmed(question: str) -> bool:
    """Whether somebody types yes."""
    return _err.input(f"{question} [yes/no] ", markup=False).strip().lower() == "yes"


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Takes (done, of how many). A bar on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=_err, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def read_passphrase(file: Path | None, what: str) -> bytes:
    """From the file (its first line), else from a hidden prompt.

    Raises Refusal: "needs_passphrase" where nobody can be asked, "bad_passphrase_file", "empty_passphrase".
    """
    if file is not None:
        content = read_input(file, at_most=_MAX_PASSPHRASE_BYTES)
        first, _, rest = content.partition(b"\n")
        if rest.strip():
            raise Refusal(
                "bad_passphrase_file", f"{file} has more than one line; give a file with the passphrase alone"
            )
        passphrase = first.removesuffix(b"\r")
    elif is_attended():
        typed = getpass.getpass(f"Passphrase of {printable(what)}: ", stream=sys.stderr)
        # Bytes that are no text come back as they were typed; encoding strictly would raise with the passphrase inside.
        passphrase = typed.encode("utf-8", "surrogateescape")
    else:
        raise Refusal(
            "needs_passphrase", f"{printable(what)} needs a passphrase: give a file with it, or use a terminal"
        )
    if not passphrase:
        raise Refusal("empty_passphrase", f"the passphrase of {printable(what)} is empty")
    return passphrase


def read_text_passphrase(file: Path | None, what: str) -> str:
    """As `read_passphrase`, where it must be text. Raises also Refusal("bad_passphrase")."""
    try:
        return read_passphrase(file, what).decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("bad_passphrase", f"the passphrase of {printable(what)} is not text in UTF-8") from None


def new_passphrase(file: Path | None, what: str) -> str:
    """As `read_text_passphrase`, but typed twice. Raises also Refusal("passphrases_differ")."""
    passphrase = read_text_passphrase(file, what)
    if file is None and read_text_passphrase(None, f"{what}, again") != passphrase:
        raise Refusal("passphrases_differ", "the two passphrases differ; start again")
    return passphrase
