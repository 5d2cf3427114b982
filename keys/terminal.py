"""The person at the dealer's machine: lines, progress, passphrases, and the comparison of fingerprints.

Results go to standard output, everything else to standard error, so that `--json` stays readable to programs.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from keys.input_files import read_input
from keys.recipients import refuse_unexpected
from keys.refusal import Refusal, printable
from mpc.provisioning.recipient import Recipient

_MAX_PASSPHRASE_BYTES = 1024
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """A line on standard error."""
    _err.print(text, markup=False)


def is_attended() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


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
        passphrase = getpass.getpass(f"Passphrase of {printable(what)}: ", stream=sys.stderr).encode("utf-8")
    else:
        raise Refusal(
            "needs_passphrase", f"{printable(what)} needs a passphrase: give a file with it, or use a terminal"
        )
    if not passphrase:
        raise Refusal("empty_passphrase", f"the passphrase of {printable(what)} is empty")
    return passphrase


def new_passphrase(file: Path | None, what: str) -> bytes:
    """As `read_passphrase`, but typed twice. Raises also Refusal("passphrases_differ")."""
    passphrase = read_passphrase(file, what)
    if file is None and read_passphrase(None, f"{what}, again") != passphrase:
        raise Refusal("passphrases_differ", "the two passphrases differ; start again")
    return passphrase


def compare_fingerprints(recipients: Sequence[Recipient], expected: Collection[str]) -> str:
    """Show whom the halves are sealed to, and have it compared; how that was done, for the manifest.

    Raises Refusal: "unexpected_recipient", "not_confirmed".
    """
    tell("recipients, to be compared with what their holders read out:")
    for recipient in recipients:
        tell(f"  {recipient.fingerprint}  {recipient.role} {recipient.name}")
    if expected:
        refuse_unexpected(recipients, expected)
        return "with given fingerprints"
    if not is_attended():
        tell("nobody was asked whether these are right; the manifest will say so (see --expect)")
        return "not compared"
    answer = _err.input("Did the holders read out exactly these? [yes/no] ", markup=False)
    if answer.strip().lower() != "yes":
        raise Refusal("not_confirmed", "nothing was made: the fingerprints were not confirmed")
    return "confirmed at the terminal"
