"""Commands about dealt keys: import the server's halves, list them, revoke them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from mpc.primitives import base64url
from mpc.provisioning.ceremony import ReadFile

from ..services import key_revocation, share_import
from ..services.context import ServiceContext
from ..services.key_revocation import MAX_LIST_BYTES, named_key, read_key_list
from ..settings import SettingsError
from ..store.credentials import CredentialRow
from .files import folder_listing, folder_reader, read_input
from .shell import OUT, context, fail, id_of_16_bytes, local_time

CeremonyId = Annotated[str | None, typer.Option(help="A ceremony's id, 32 hexadecimal digits.")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this file into the application."""
    app.command()(import_shares)
    app.command()(provisioned)
    app.command()(revoke_keys)


def import_shares(
    folder: Annotated[Path, typer.Argument(help="The folder of a ceremony, made by tandem-keys.")],
    ceremony_key: Annotated[
        str | None, typer.Option(help="Fingerprint of the key of the ceremony, as the witnesses wrote it down.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON.")] = False,
) -> None:
    """Take this server's halves of dealt keys: all of them or none. May be repeated."""
    with context() as ctx:
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {folder}")
        read = folder_reader(folder)
        if ceremony_key is None and not ctx.policy.ceremony_keys:
            ceremony_key = _confirmed(read)
        with _bar() as progress:
            done = share_import.import_shares(
                ctx,
                read,
                listing=folder_listing(folder),
                expected_ceremony_key=ceremony_key,
                progress=progress,
            )
    _report(done, as_json)


def provisioned(
    ceremony: CeremonyId = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the provisioned keys and what has become of them."""
    with context() as ctx:
        wanted = None if ceremony is None else id_of_16_bytes(ceremony, "ceremony")
        rows = key_revocation.inventory(ctx, wanted)
        now = ctx.clock()
    if as_json:
        OUT.print(json.dumps({"provisioned": [_document(row, now) for row in rows]}, indent=2), markup=False)
        return
    # Folded in a narrow terminal, where leaving ids whole would push the other columns out of sight.
    table = Table(Column("key id", overflow="fold"), "relying party", Column("enrolment", overflow="fold"))
    for heading in ("status", "expires"):
        table.add_column(heading, min_width=11)
    table.add_column("ceremony", overflow="fold")
    for item in (_document(row, now) for row in rows):
        table.add_row(
            item["key_id"],
            item["rp_id"],
            item["enrolment_id"],
            f"{item['status']}, expired" if item["expired"] else item["status"],
            local_time(item["not_after"]),
            item["ceremony_id"],
        )
    OUT.print(table)


def revoke_keys(
    key_id: Annotated[list[str] | None, typer.Option(help="A key id, base64url; may be repeated.")] = None,
    ceremony: CeremonyId = None,
    file: Annotated[Path | None, typer.Option(help="A file with one key id a line; # begins a comment.")] = None,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Pass over ids that are no provisioned keys here.")
    ] = False,
) -> None:
    """End provisioned keys for good: all that are named, or none. This server's shares of them are erased."""
    with context() as ctx:
        if (ceremony is not None) + (file is not None) + bool(key_id) != 1:
            raise SettingsError("give one of --key-id, --ceremony and --file")
        done = _revoked(ctx, key_id or [], ceremony, file, ignore_unknown)
    OUT.print(f"revoked: {len(done.revoked)}, revoked before: {len(done.before)}, unknown: {len(done.unknown)}")


def _revoked(
    ctx: ServiceContext, key_ids: list[str], ceremony: str | None, file: Path | None, ignore_unknown: bool
) -> key_revocation.Revoked:
    if ceremony is not None:
        return key_revocation.revoke_ceremony(ctx, id_of_16_bytes(ceremony, "ceremony"))
    keys = (
        read_key_list(read_input(file, MAX_LIST_BYTES))
        if file is not None
        else [named_key(text, f"--key-id {number}") for number, text in enumerate(key_ids, start=1)]
    )
    return key_revocation.revoke_keys(ctx, keys, ignore_unknown=ignore_unknown)


def _report(done: share_import.Imported, as_json: bool) -> None:
    """What was done; how to go on is for people alone."""
    if as_json:
        document: dict[str, Any] = {"ceremony_id": done.ceremony_id.hex(), "revision": done.revision}
        document["recipients_compared"] = done.recipients_compared
        document["server_recipients"] = list(done.server_recipients)
        for name in ("new", "known", "rebound", "revoked", "displaced"):
            document[name] = [base64url.encode(key_id) for key_id in getattr(done, name)]
        OUT.print(json.dumps(document, indent=2), markup=False)
        return
    OUT.print(f"ceremony {done.ceremony_id.hex()}, revision {done.revision}", markup=False)
    OUT.print(f"recipients compared by the dealer: {done.recipients_compared or 'not recorded'}", markup=False)
    OUT.print(f"new: {len(done.new)}, known: {len(done.known)}, rebound: {len(done.rebound)}")
    if done.revoked:
        OUT.print(f"of the known, {len(done.revoked)} are revoked and stay so")
    if done.displaced:
        OUT.print(
            f"for {len(done.displaced)} of the new, a credential that a device had put under the key's id was removed;"
            " see the events credential_displaced"
        )
    print(
        "Once nothing that is sealed to it is on its way here, erase the key that opens this folder:", file=sys.stderr
    )
    for fingerprint in done.server_recipients:
        print(f"  authsvc retire-recipient {fingerprint}", file=sys.stderr)


def _confirmed(read: ReadFile) -> str:
    """The fingerprint of the manifest's signer, once a person at the terminal has said that it is the right one."""
    fingerprint = share_import.ceremony_fingerprint(read)
    if not sys.stdin.isatty():
        fail(
            f"the manifest is signed with the ceremony key {fingerprint}; compare it with what the witnesses wrote"
            " down, and then give it as --ceremony-key or add it to the setting ceremony_keys"
        )
    print(f"The manifest is signed with the ceremony key\n\n  {fingerprint}\n", file=sys.stderr)
    if not typer.confirm("Is this what the witnesses of the ceremony wrote down?", err=True):
        fail("nothing was imported; find out who made this folder")
    return fingerprint


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if somebody is there to see it."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("checking", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _document(row: CredentialRow, now: float) -> dict[str, Any]:
    return {
        "key_id": base64url.encode(row.id),
        "rp_id": row.rp_id,
        "enrolment_id": row.enrolment_id.hex(),
        "status": row.status,
        "not_after": row.not_after,
        "expired": row.has_expired(now),
        "ceremony_id": None if row.ceremony_id is None else row.ceremony_id.hex(),
    }
