"""`authsvc`: run the server, and what an operator does on its machine.

The commands work on the database directly, so they need the server's settings and files, and neither the
network nor a token. They may run while the server does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..app import create_context
from ..services import administration
from ..settings import load_settings
from ..store import migrate as migrations
from . import attestation, audit, ceremonies, inspection, keks, people, recipients, tokens
from .serving import serve_until_stopped
from .shell import OUT, EnrolmentId, context, errors_for_operators, id_of_16_bytes

app = typer.Typer(
    name="authsvc",
    help="The Tandem authentication server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve; 1 by default.", min=1, max=256)] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Write the URL here once listening.")] = None,
) -> None:
    """Run the server until it is told to stop."""
    named = {"host": host, "port": port, "tls_cert_file": tls_cert, "tls_key_file": tls_key, "workers": workers}
    given = {name: value for name, value in named.items() if value is not None}
    with errors_for_operators():
        serve_until_stopped(load_settings(**given), given, ready_file)


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


tokens.add_commands(app)
inspection.add_commands(app)
people.add_commands(app)
recipients.add_commands(app)
keks.add_commands(app)
ceremonies.add_commands(app)
audit.add_commands(app)
attestation.add_commands(app)


def main() -> None:
    """The `authsvc` command."""
    app()
