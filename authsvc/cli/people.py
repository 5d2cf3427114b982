"""Commands that change enrolments: lift, rotate, revoke, export, erase."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..api.admin_documents import parse_credential_id
from ..services import administration, bulk_revocation, personal_data, template_rotation
from ..settings import SettingsError
from .files import read_input, write_new
from .shell import OUT, EnrolmentId, context, id_of_16_bytes


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this file into the application."""
    app.command()(lift)
    app.command()(rotate_template)
    app.command()(revoke)
    app.command()(revoke_credential)
    app.command()(revoke_relying_party)
    app.command()(export)
    app.command()(erase)


def lift(
    enrolment_id: EnrolmentId,
    active: Annotated[
        bool, typer.Option("--active", help="Also one in service: for a device that says it was restored.")
    ] = False,
) -> None:
    """Lift a quarantine, or unlock after too many failures in a row; prints the device's recovery code."""
    with context() as ctx:
        issued = administration.lift(ctx, id_of_16_bytes(enrolment_id, "enrolment_id"), also_active=active)
    OUT.print(issued.code, markup=False)


def rotate_template(
    enrolment_id: EnrolmentId,
    without_match: Annotated[
        bool,
        typer.Option(
            "--without-match",
            help="You vouch that it is the same person: the device need not match the present template.",
        ),
    ] = False,
) -> None:
    """Print a code with which the device puts a new template in place and keeps its passkeys."""
    with context() as ctx:
        issued = template_rotation.issue_rotation_code(
            ctx, id_of_16_bytes(enrolment_id, "enrolment_id"), without_match=without_match
        )
    OUT.print(issued.code, markup=False)


def revoke(
    enrolment_ids: Annotated[
        list[str] | None, typer.Argument(help="Enrolment ids, 32 hexadecimal digits each.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="A file with one id a line; # begins a comment.")] = None,
    ignore_unknown: Annotated[
        bool, typer.Option("--ignore-unknown", help="Pass over ids that are no enrolments here.")
    ] = False,
) -> None:
    """End enrolments and all their credentials for good: all that are named, or none."""
    with context() as ctx:
        if (file is None) == (not enrolment_ids):
            raise SettingsError("give enrolment ids, or --file")
        named = (
            bulk_revocation.read_enrolment_list(read_input(file, bulk_revocation.MAX_LIST_BYTES))
            if file is not None
            else [bulk_revocation.named_enrolment(text.lower(), "enrolment_id") for text in enrolment_ids or []]
        )
        done = bulk_revocation.revoke_enrolments(ctx, named, ignore_unknown=ignore_unknown)
    OUT.print(f"revoked: {len(done.revoked)}, revoked before: {len(done.before)}, unknown: {len(done.unknown)}")


def revoke_credential(
    credential_id: Annotated[str, typer.Argument(help="The credential's id, base64url.")],
) -> None:
    """End one credential for good."""
    with context() as ctx:
        administration.revoke_credential(ctx, parse_credential_id(credential_id))
    OUT.print("revoked")


def revoke_relying_party(
    rp_id: Annotated[str, typer.Argument(help="The relying party's id.")],
    confirm: Annotated[str | None, typer.Option(help="The value that the command prints without this.")] = None,
) -> None:
    """End every credential for a relying party for good. Without --confirm only counts them."""
    with context() as ctx:
        if confirm is None:
            found = bulk_revocation.at_relying_party(ctx, rp_id)
        else:
            found = bulk_revocation.revoke_at_relying_party(ctx, rp_id, confirmation=confirm)
    done = "would be revoked" if confirm is None else "revoked"
    OUT.print(f"{done}: {found.credentials} credentials of {found.enrolments} enrolments", markup=False)
    if confirm is None:
        OUT.print(f"to do it: --confirm {found.confirmation}", markup=False)


def export(
    enrolment_id: EnrolmentId,
    out: Annotated[Path | None, typer.Option(help="A new file, its owner's alone, instead of standard output.")] = None,
) -> None:
    """Everything stored about one user as JSON, without shares and keys. Leaves an event."""
    with context() as ctx:
        if out is not None and out.exists():  # said before the event is written
            raise SettingsError(f"{out} exists already; name another file, or move it away")
        document = personal_data.export_user(ctx, id_of_16_bytes(enrolment_id, "enrolment_id"))
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        if out is not None:
            write_new(out, text.encode("utf-8"))
    if out is None:
        sys.stdout.write(text)
    else:
        OUT.print(f"written: {out}", markup=False)


def erase(
    enrolment_id: EnrolmentId,
    confirm: Annotated[str | None, typer.Option(help="The enrolment's id again; asked for at a terminal.")] = None,
) -> None:
    """Remove everything about one user but pseudonymous events, for good."""
    with context() as ctx:
        named = id_of_16_bytes(enrolment_id, "enrolment_id")
        if confirm is None:
            if not sys.stdin.isatty():
                raise SettingsError("confirm: give the enrolment's id again as --confirm")
            confirm = typer.prompt("This cannot be undone. Type the enrolment's id again", err=True)
        personal_data.erase_user(ctx, named, confirmation=str(confirm))
    OUT.print("erased")
