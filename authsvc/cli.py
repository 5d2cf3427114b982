"""`authsvc`: run the server, and what an operator does on its machine.

The commands work on the database directly, so they need the server's settings and files, and neither the
network nor the admin token. They may run while the server does.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console
from rich.table import Column, Table

from .api.admin import enrolment_document, parse_credential_id
from .api.bounded_http import BoundedHttpProtocol
from .app import create_app, create_context, prepare_database
from .errors import PROBLEMS, Refused
from .services import administration
from .services.context import ServiceContext
from .services.readiness import WrongKek
from .settings import Settings, SettingsError, load_settings
from .store import migrate as migrations
from .store.engine import StoreUnavailable

app = typer.Typer(
    name="authsvc",
    help="The Tandem authentication server.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# A pipe has no width: tables that programs and people grep through are then not squeezed into 80 columns.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

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
    with _errors_for_operators():
        settings = load_settings(**{name: value for name, value in given.items() if value is not None})
        _serve(settings, ready_file)


@app.command()
def code(
    label: Annotated[str, typer.Option(help="Your name for the person who will enrol.")],
    lifetime_s: Annotated[int | None, typer.Option(help="Seconds until it expires.")] = None,
) -> None:
    """Issue a one-time enrolment code."""
    with _context() as ctx:
        issued = administration.issue_code(ctx, label=label, lifetime_s=lifetime_s)
    _out.print(issued.code, markup=False)


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="Revision to upgrade to.")] = "head",
    down: Annotated[str | None, typer.Option(help="Revision to go back to instead; 'base' removes all.")] = None,
) -> None:
    """Bring the database to a revision; the server does it by itself at every start."""
    with _errors_for_operators():
        ctx = create_context(load_settings())
        try:
            if down is not None:
                migrations.downgrade(ctx.store, down)
            else:
                migrations.upgrade(ctx.store, to)
            with ctx.store.read() as conn:
                revision = migrations.current_revision(conn)
        finally:
            ctx.store.close()
    _out.print(f"database revision: {revision or 'none'}", markup=False)


@app.command()
def enrolments(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """List the enrolments, oldest first."""
    with _context() as ctx:
        documents = [enrolment_document(row) for row in administration.all_enrolments(ctx)]
    if as_json:
        _out.print(json.dumps({"enrolments": documents}, indent=2), markup=False)
        return
    table = Table(Column("id", no_wrap=True, min_width=32), "label", "status", "reason", "profile")
    for heading in ("epoch", "failures in a row", "last attempt"):
        table.add_column(heading)
    for item in documents:
        table.add_row(
            item["id"],
            _plain(item["label"]),
            item["status"],
            item["status_reason"] or "",
            item["profile"],
            str(item["epoch"]),
            str(item["consecutive_failures"]),
            _time(item["last_attempt_at"]),
        )
    _out.print(table)


@app.command()
def lift(
    enrolment_id: EnrolmentId,
    active: Annotated[
        bool, typer.Option("--active", help="Also one in service: for a device that says it was restored.")
    ] = False,
) -> None:
    """Lift a quarantine, or unlock after too many failures in a row; prints the device's recovery code."""
    with _context() as ctx:
        issued = administration.lift(ctx, _enrolment_id(enrolment_id), also_active=active)
    _out.print(issued.code, markup=False)


@app.command()
def revoke(enrolment_id: EnrolmentId) -> None:
    """End an enrolment and all its credentials for good."""
    with _context() as ctx:
        administration.revoke_enrolment(ctx, _enrolment_id(enrolment_id))
    _out.print("revoked")


@app.command()
def revoke_credential(
    credential_id: Annotated[str, typer.Argument(help="The credential's id, base64url.")],
) -> None:
    """End one credential for good."""
    with _context() as ctx:
        administration.revoke_credential(ctx, parse_credential_id(credential_id))
    _out.print("revoked")


@app.command()
def template_share(enrolment_id: EnrolmentId) -> None:
    """Print this server's half of a template in hexadecimal, to see that it is noise.

    Together with the device's half it is the template: keep it here.
    """
    with _context() as ctx:
        share = administration.template_share(ctx, _enrolment_id(enrolment_id))
    _out.print(share.hex(), markup=False)


@app.command()
def config() -> None:
    """Show the settings in effect, with secrets hidden."""
    with _errors_for_operators():
        _out.print(json.dumps(load_settings().as_table(), indent=2, sort_keys=True), markup=False)


def main() -> None:
    """The `authsvc` command."""
    app()


def _serve(settings: Settings, ready_file: Path | None) -> None:
    tls = settings.tls_cert_file is not None
    if not tls and not _is_loopback(settings.host):
        raise SettingsError("host: plain http is served on loopback addresses only; set tls_cert_file and tls_key_file")
    application = create_app(settings)
    # Database faults should reach the operator as one sentence, before anything listens.
    ctx: ServiceContext = application.state.context
    prepare_database(ctx)
    listener = _listen(settings.host, settings.port)
    address, port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    url = f"{'https' if tls else 'http'}://{shown}:{port}"

    def ready() -> None:
        _out.print(f"listening on {url}", markup=False)
        if ready_file is not None:
            # Renamed into place, so that whoever waits for the file never reads half of it.
            temporary = ready_file.with_name(ready_file.name + ".part")
            temporary.write_text(url + "\n", encoding="utf-8")
            os.replace(temporary, ready_file)

    try:
        config_ = uvicorn.Config(
            application,
            ssl_certfile=settings.tls_cert_file,
            ssl_keyfile=settings.tls_key_file,
            access_log=False,
            log_level="warning",
            server_header=False,
            # Nobody in front of this server terminates TLS, so nobody's word about the client counts.
            proxy_headers=False,
            http=BoundedHttpProtocol,
            # An upgrade would hand the connection to a parser without these bounds.
            ws="none",
            timeout_keep_alive=30,
            limit_concurrency=settings.max_connections,
            timeout_graceful_shutdown=10,
        )
        try:
            config_.load()
        except OSError as error:
            raise SettingsError(f"tls_cert_file or tls_key_file: {error.strerror or 'not usable'}") from error
        server = _Server(config_, ready)
        server.run(sockets=[listener])
    finally:
        listener.close()
    if not server.started:
        raise typer.Exit(3)


class _Server(uvicorn.Server):
    """uvicorn, telling when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the call."""
        await super().startup(sockets=sockets)
        if self.started and not self.should_exit:
            self._ready()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingsError(f"host, port: cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _context() -> Iterator[ServiceContext]:
    with _errors_for_operators():
        ctx = create_context(load_settings())
        try:
            prepare_database(ctx)
            yield ctx
        finally:
            ctx.store.close()


@contextmanager
def _errors_for_operators() -> Iterator[None]:
    """One sentence on standard error and exit code 1 for what an operator can put right; anything else is a
    bug and raises.
    """
    try:
        yield
    except (SettingsError, WrongKek, StoreUnavailable, migrations.MigrationError) as error:
        _fail(f"{error}\n{_advice(error)}".strip())
    except Refused as error:
        field = error.extension.get("field")
        _fail(f"{PROBLEMS[error.code].title}{f' ({field})' if field else ''}: {PROBLEMS[error.code].detail}")


def _fail(text: str) -> None:
    print(f"authsvc: {text}", file=sys.stderr)
    raise typer.Exit(1)


def _advice(error: Exception) -> str:
    if isinstance(error, SettingsError):
        return ""
    return " ".join((type(error).__doc__ or "").split())


def _enrolment_id(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise Refused("malformed", field="enrolment_id")
    return value


def _time(at: Any) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _plain(text: str) -> str:
    return text.replace("[", "\\[")
