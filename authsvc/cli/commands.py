"""`authsvc`: run the server, and what an operator does on its machine.

The commands work on the database directly, so they need the server's settings and files, and neither the
network nor the admin token. They may run while the server does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from ..api.admin import enrolment_document, parse_credential_id
from ..app import create_context
from ..services import administration
from ..settings import load_settings
from ..store import migrate as migrations
from . import ceremonies, keks, recipients
from .serving import serve_until_stopped
from .shell import OUT, context, errors_for_operators, id_of_16_bytes, local_time, without_markup

app = typer.Typer(
    name="authsvc",
    help="The Tandem authentication server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EnrolmentId = Annotated[str, typer.Argument(help="The enrolment's id, 32 hexadecimal digits.")]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write the URL here once listening.")] = None,
) -> None:
    """Run the server until it is told to stop."""
    given = {"host": host, "port": port, "tls_cert_file": tls_cert, "tls_key_file": tls_key}
    with errors_for_operators():
        settings = load_settings(**{name: value for name, value in given.items() if value is not None})
        serve_until_stopped(settings, ready_file)


@app.command()
def code(
    label: Annotated[str, typer.Option(help="Your name for the person who will enrol.")],
    lifetime_s: Annotated[int | None, typer.Option(help="Seconds until it expires.")] = None,
) -> None:
    """Issue a one-time enrolment code."""
    with context() as ctx:
        issued = administration.issue_code(ctx, label=label, lifetime_s=lifetime_s)
    OUT.print(issued.code, markup=False)


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Revision to upgrade to.")] = "head",
    down: Annotated[str | None, typer.Option(help="Revision to go back to instead; 'base' removes all.")] = None,
) -> None:
    """Bring the database to a revision; the server does it by itself at every start."""
    with errors_for_operators():
        ctx = create_context(load_settings())
        try:
            if down is not None:
                migrations.downgrade(ctx.store, down, ctx.keyring)
            else:
                migrations.upgrade(ctx.store, to)
            with ctx.store.read() as conn:
                revision = migrations.current_revision(conn)
        finally:
            ctx.store.close()
    OUT.print(f"database revision: {revision or 'none'}", markup=False)


@app.command()
def enrolments(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the enrolments, oldest first."""
    with context() as ctx:
        documents = [enrolment_document(row) for row in administration.all_enrolments(ctx)]
    if as_json:
        OUT.print(json.dumps({"enrolments": documents}, indent=2), markup=False)
        return
    table = Table(Column("id", no_wrap=True, min_width=32), "label", "status", "reason", "profile")
    for heading in ("epoch", "failures in a row", "last attempt"):
        table.add_column(heading)
    for item in documents:
        table.add_row(
            item["id"],
            without_markup(item["label"]),
            item["status"],
            item["status_reason"] or "",
            item["profile"],
            str(item["epoch"]),
            str(item["consecutive_failures"]),
            local_time(item["last_attempt_at"]),
        )
    OUT.print(table)


@app.command()
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


@app.command()
def revoke(enrolment_id: EnrolmentId) -> None:
    """End an enrolment and all its credentials for good."""
    with context() as ctx:
        administration.revoke_enrolment(ctx, id_of_16_bytes(enrolment_id, "enrolment_id"))
    OUT.print("revoked")


@app.command()
def revoke_credential(
    credential_id: Annotated[str, typer.Argument(help="The credential's id, base64url.")],
) -> None:
    """End one credential for good."""
    with context() as ctx:
        administration.revoke_credential(ctx, parse_credential_id(credential_id))
    OUT.print("revoked")


@app.command()
def template_share(enrolment_id: EnrolmentId) -> None:
    """Print this server's half of a template in hexadecimal, to see that it is noise.

    Together with the device's half it is the template: keep it here.
    """
    with context() as ctx:
        share = administration.template_share(ctx, id_of_16_bytes(enrolment_id, "enrolment_id"))
    OUT.print(share.hex(), markup=False)


@app.command()
def config() -> None:
    """Show the settings in effect, with secrets hidden."""
    with errors_for_operators():
        OUT.print(json.dumps(load_settings().as_table(), indent=2, sort_keys=True), markup=False)


recipients.add_commands(app)
keks.add_commands(app)
ceremonies.add_commands(app)


def main() -> None:
    """The `authsvc` command."""
    app()
