"""Commands about the audit log: look at it, verify it, sign it, and keep signed checkpoints elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from mpc.errors import DecodeError
from mpc.provisioning.signed_document import key_fingerprint
from mpc.provisioning.times import to_text

from ..errors import Refused
from ..sealing import SealingError
from ..services import audit_verification, checkpoints
from ..services.audit_verification import Finding, Report
from ..services.checkpoint_document import MAX_CHECKPOINT_BYTES
from ..settings import SettingsError
from ..store.checkpoints import CheckpointRow, latest_checkpoint
from ..store.event_names import EVENTS
from ..store.event_search import EventFilter, search_events
from ..store.events import EventRow
from .files import read_input, write_over
from .shell import OUT, context, fail, id_of_16_bytes, local_time, without_markup

_MAX_KEY_BYTES = 4096
_SHOWN_FINDINGS = 50

app = typer.Typer(help="The audit log: show, verify, sign, export.", no_args_is_help=True)


def add_commands(parent: typer.Typer) -> None:
    """Put the group of this file into the application."""
    parent.add_typer(app, name="audit")


@app.command()
def verify(
    since_checkpoint: Annotated[
        Path | None,
        typer.Option(help="A checkpoint that was exported and kept elsewhere: the log must still contain it."),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="The key that signed, as PEM. Default: the one sealed in the database.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Walk the whole log and name every deletion, change, insertion or reordering. Exit code 1 if there is one."""
    with context() as ctx:
        kept = None if since_checkpoint is None else read_input(since_checkpoint, MAX_CHECKPOINT_BYTES)
        key = None if public_key is None else _read_key(public_key)
        try:
            with _bar() as progress:
                report = audit_verification.verify_log(ctx, kept=kept, public_key=key, progress=progress)
        except DecodeError as error:
            raise SettingsError(f"{since_checkpoint}: {error}") from None
    if as_json:
        OUT.print(json.dumps(_report_document(report), indent=2), markup=False)
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def show(
    enrolment: Annotated[str | None, typer.Option(help="Only of this enrolment, 32 hexadecimal digits.")] = None,
    name: Annotated[str | None, typer.Option(help="Only events of this name, such as login_confirmed.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on: 2026-11-20T16:00:00Z, 2026-11-20 or Unix seconds; UTC.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=1, max=100_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Show events, newest first."""
    with context() as ctx:
        if name is not None and name not in EVENTS:
            raise SettingsError(f"--name: there is no such event; there are {', '.join(sorted(EVENTS))}")
        wanted = None if enrolment is None else id_of_16_bytes(enrolment, "enrolment")
        after = None if since is None else _time(since)
        with ctx.store.read() as conn:
            rows = search_events(conn, EventFilter(wanted, name, after), limit=limit)
    if as_json:
        OUT.print(json.dumps({"events": [event_document(row) for row in rows]}, indent=2), markup=False)
        return
    table = Table("id", Column("time", no_wrap=True), Column("enrolment", overflow="fold"), "event", "detail")
    for row in rows:
        owner = "" if row.enrolment_id is None else row.enrolment_id.hex()
        told = "" if row.detail == "{}" else row.detail
        table.add_row(str(row.id), local_time(row.at), owner, without_markup(row.name), without_markup(told))
    OUT.print(table)


@app.command()
def checkpoint() -> None:
    """Sign the events since the last checkpoint now. A running server does it by itself."""
    with _tampering_told(), context() as ctx:
        row = checkpoints.write_checkpoint(ctx)
    OUT.print("nothing new to sign" if row is None else _told(row), markup=False)


@app.command()
def export_checkpoint(
    out: Annotated[Path, typer.Option(help="The file to write; an older one of this name is replaced.")],
) -> None:
    """Sign what is new and write the last checkpoint. Keep it where this server's operators cannot write."""
    with _tampering_told(), context() as ctx:
        checkpoints.write_checkpoint(ctx)
        with ctx.store.read() as conn:
            row = latest_checkpoint(conn)
        if row is None:
            fail("there is no event yet, and so nothing to export")
        write_over(out, row.document)
    OUT.print(f"{_told(row)}, written to {out}", markup=False)


@app.command()
def key(
    out: Annotated[Path | None, typer.Option(help="Write the public key to this file, as PEM.")] = None,
) -> None:
    """Print the public key that verifies checkpoints, and its fingerprint to compare over another channel."""
    with _tampering_told(), context() as ctx:
        raw = checkpoints.public_key(ctx)
    pem = Ed25519PublicKey.from_public_bytes(raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if out is not None:
        write_over(out, pem)
    OUT.print(key_fingerprint(raw), markup=False)
    if out is None:
        OUT.print(pem.decode("ascii").strip(), markup=False)


def event_document(row: EventRow) -> dict[str, Any]:
    """One event for programs."""
    return {
        "id": row.id,
        "at": row.at,
        "enrolment_id": None if row.enrolment_id is None else row.enrolment_id.hex(),
        "seq": row.seq,
        "name": row.name,
        "detail": json.loads(row.detail),
    }


def _report_document(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "events": report.events,
        "chains": report.chains,
        "checkpoints": report.checkpoints,
        "covered": report.covered,
        "signing_key": report.signing_key,
        "found": report.found,
        "first": None if report.first is None else _finding_document(report.first),
        "findings": [_finding_document(each) for each in report.findings],
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "text": finding.text,
        "event_id": finding.event_id,
        "enrolment_id": None if finding.enrolment_id is None else finding.enrolment_id.hex(),
        "seq": finding.seq,
        "checkpoint": finding.checkpoint,
    }


def _print_report(report: Report) -> None:
    walked = f"events: {report.events}, chains: {report.chains}, checkpoints: {report.checkpoints}"
    signed = f"signed events: {report.covered}" + (f", with the key {report.signing_key}" if report.signing_key else "")
    OUT.print(f"{walked}; {signed}", markup=False)
    if report.first is None:
        OUT.print("the log is whole", markup=False)
        return
    OUT.print(f"the log is broken, places: {report.found}; the first: {report.first.text}", markup=False)
    for finding in report.findings[:_SHOWN_FINDINGS]:
        OUT.print(f"  {finding.kind}: {finding.text}", markup=False)
    if report.found > _SHOWN_FINDINGS:
        OUT.print(f"  and {report.found - _SHOWN_FINDINGS} more; --json lists up to a thousand", markup=False)


def _told(row: CheckpointRow) -> str:
    return f"checkpoint {row.number} of {to_text(int(row.at))}, up to event {row.last_event_id}"


def _read_key(path: Path) -> bytes:
    try:
        loaded = load_pem_public_key(read_input(path, _MAX_KEY_BYTES))
    except ValueError:
        loaded = None
    if not isinstance(loaded, Ed25519PublicKey):
        raise SettingsError(f"{path} is no Ed25519 public key in PEM, as `authsvc audit key --out` writes it")
    return loaded.public_bytes_raw()


def _time(text: str) -> float:
    """Unix seconds. Refused("malformed")."""
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else _iso(text)
    except ValueError:
        raise Refused("malformed", field="since") from None


def _iso(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@contextmanager
def _tampering_told() -> Iterator[None]:
    try:
        yield
    except checkpoints.AuditLogAltered as altered:
        fail(f"the audit log was altered, and nothing is signed: {altered}; `authsvc audit verify` tells more")
    except (SealingError, DecodeError, ValueError):
        fail("the signing key or the last checkpoint was changed; `authsvc audit verify` tells what")


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if somebody is there to see it."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty(), transient=True) as shown:
        task = shown.add_task("verifying", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
