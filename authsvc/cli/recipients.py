"""Commands about this server's recipients: the keys to which a ceremony seals its halves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from mpc.errors import DecodeError
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient

from ..services import recipients as own_recipients
from ..settings import SettingsError
from .files import read_input, read_passphrase, write_new, write_over
from .shell import OUT, context, local_time, without_markup

Fingerprint = Annotated[str, typer.Argument(help="The recipient's fingerprint: eight groups of four characters.")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this file into the application."""
    app.command()(recipient)
    app.command()(recipients)
    app.command()(retire_recipient)
    app.command()(export_recipient_key)


def recipient(
    suite: Annotated[HpkeSuite | None, typer.Option(help="For a new one; x25519 unless told.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Make a new one, even if there is one.")] = False,
    name: Annotated[str | None, typer.Option(help="For a new one: a name that tells people whose it is.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the file here instead of standard output.")] = None,
) -> None:
    """Export this server's recipient file for a ceremony; makes the key if there is none.

    The fingerprint goes to standard error: read it to the person who deals the keys.
    """
    with context() as ctx:
        own = None if new else own_recipients.current(ctx, suite)
        if own is None:
            own = own_recipients.create(ctx, suite=suite or HpkeSuite.X25519, name=name)
        elif name is not None:
            raise SettingsError("name: there is a recipient already, and its name is signed; make another with --new")
        document = own.recipient.document
        if out is not None:
            _require_replaceable(out)
            write_over(out, document)
    if out is None:
        sys.stdout.write(document.decode("utf-8"))
        sys.stdout.flush()
    print(f"fingerprint: {own.recipient.fingerprint}", file=sys.stderr)


def recipients(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List this server's recipients, oldest first."""
    with context() as ctx:
        rows = own_recipients.every(ctx)
    if as_json:
        documents = [
            {
                "fingerprint": own.recipient.fingerprint,
                "name": own.recipient.name,
                "suite": own.recipient.public_key.suite.value,
                "created_at": own.recipient.created_at,
                "retired_at": own.retired_at,
            }
            for own in rows
        ]
        OUT.print(json.dumps({"recipients": documents}, indent=2), markup=False)
        return
    table = Table(Column("fingerprint", no_wrap=True), "name", "suite", "created", "retired")
    for own in rows:
        table.add_row(
            own.recipient.fingerprint,
            without_markup(own.recipient.name),
            own.recipient.public_key.suite.value,
            local_time(own.recipient.created_at),
            local_time(own.retired_at),
        )
    OUT.print(table)


def retire_recipient(fingerprint: Fingerprint) -> None:
    """Erase a recipient's private key. What is sealed to it and not imported is lost."""
    with context() as ctx:
        own_recipients.retire(ctx, fingerprint)
    OUT.print("retired")


def export_recipient_key(
    fingerprint: Fingerprint,
    out: Annotated[Path, typer.Option(help="The file to write; it must not exist.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Its first line is the passphrase; without it, the command asks.")
    ] = None,
) -> None:
    """Write a recipient's private key to a file under a passphrase, for `tandem-keys rewrap`.

    Whoever has file and passphrase opens this server's halves of every ceremony sealed to it.
    """
    with context() as ctx:
        if out.exists():  # said before the event is written; that nothing is overwritten is write_new's business
            raise SettingsError(f"{out} exists already; name another file, or move it away")
        protected = own_recipients.export_key(ctx, fingerprint, _passphrase(passphrase_file))
        write_new(out, protected)
    OUT.print(f"written: {out}", markup=False)


def _require_replaceable(out: Path) -> None:
    """A slip of the finger must not put a public file in the place of a key or a database. SettingsError."""
    if not out.exists():
        return
    try:
        Recipient.decode(read_input(out, MAX_RECIPIENT_BYTES))
    except (DecodeError, SettingsError):
        raise SettingsError(f"{out} exists and is no recipient file; name another file, or move it away") from None


def _passphrase(path: Path | None) -> str:
    if path is not None:
        return read_passphrase(path)
    if not sys.stdin.isatty():
        raise SettingsError("passphrase_file: there is no terminal to ask for the passphrase; name a file")
    answer: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return answer
