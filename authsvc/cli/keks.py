"""Commands about the key-encryption key: making one in a token, and changing it while servers run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..key_port.pkcs11_token import make_key
from ..services import kek_rotation
from ..settings import SettingsError, load_settings
from .shell import OUT, context, errors_for_operators, fail


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this file into the application."""
    app.command()(rotate_kek)
    app.command()(make_kek)


def rotate_kek(
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Move all data keys to the key-encryption key that the settings name, and retire the old one.

    Name the old one in kek_previous. All servers must have both before you begin; they may run meanwhile. Interrupted,
    it goes on when it is run again. Afterwards take the old key out of kek_previous on every server: one that names
    it does not start again.
    """
    with context() as ctx, _progress_bar("wrapping data keys again") as progress:
        done = kek_rotation.rotate_kek(ctx, progress=progress)
    document = {
        "kek_id": done.kek_id.hex(),
        "rewrapped": done.rewrapped,
        "retired": [each.hex() for each in done.retired],
        "unreadable": [each.hex() for each in done.unreadable],
    }
    if as_json:
        OUT.print(json.dumps(document, indent=2), markup=False)
    else:
        OUT.print(f"data keys wrapped again: {done.rewrapped}")
        for kek_id in done.retired:
            OUT.print(f"retired: {kek_id.hex()}", markup=False)
    if done.unreadable:
        shown = ", ".join(each.hex() for each in done.unreadable[:10])
        fail(
            f"{len(done.unreadable)} data keys do not open, and the old key is not retired as long as they are there;"
            f" restore their rows, or erase these enrolments: {shown}"
        )


def make_kek() -> None:
    """Make the key that the setting kek_pkcs11 names in its token: AES-256, and nobody can read it out."""
    with errors_for_operators():
        place = load_settings().kek_pkcs11
        if place is None:
            raise SettingsError("kek_pkcs11: not set; it names the token, and the key to make")
        make_key(place.module, place.token, place.key, place.load_pin())
    OUT.print(f"made: {place.key}", markup=False)


@contextmanager
def _progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Takes (done, of how many). A bar on a terminal; elsewhere nothing."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
