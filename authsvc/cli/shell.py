"""What all commands share: settings and database at hand, one output, and errors as sentences for an operator."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from mpc.provisioning.ceremony import CeremonyError

from ..app import create_context, prepare_database
from ..errors import PROBLEMS, Refused
from ..key_port.port import KeyUnavailable
from ..logs import configure_logs
from ..services.attestation import AttestationRefused
from ..services.context import ServiceContext
from ..services.kek_adoption import WrongKek
from ..services.kek_rotation import RotationRefused
from ..services.provisioning_refusals import ProvisioningRefused
from ..settings import SettingsError, load_settings
from ..store import migrate as migrations
from ..store.engine import StoreUnavailable

EnrolmentId = Annotated[str, typer.Argument(help="The enrolment's id, 32 hexadecimal digits.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]

# A pipe has no width: tables that programs and people grep through are then not squeezed into 80 columns.
OUT = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


@contextmanager
def context() -> Iterator[ServiceContext]:
    """The server's tools over its migrated database; errors as in `errors_for_operators`."""
    with errors_for_operators():
        settings = load_settings()
        configure_logs(settings.log_level)  # to standard error: what a program reads from standard output stays whole
        ctx = create_context(settings)
        try:
            prepare_database(ctx)
            yield ctx
        finally:
            ctx.store.close()


@contextmanager
def errors_for_operators() -> Iterator[None]:
    """One sentence on standard error and exit code 1 for what an operator can put right; anything else is a
    bug and raises.
    """
    try:
        yield
    except (SettingsError, ProvisioningRefused, CeremonyError, RotationRefused, AttestationRefused) as error:
        fail(str(error))
    except (WrongKek, KeyUnavailable, StoreUnavailable, migrations.MigrationError) as error:
        # These classes say in their docstring what to do.
        fail(f"{error}\n{' '.join((type(error).__doc__ or '').split())}".strip())
    except Refused as error:
        field = error.extension.get("field")
        fail(f"{PROBLEMS[error.code].title}{f' ({field})' if field else ''}: {PROBLEMS[error.code].detail}")


def fail(text: str) -> NoReturn:
    """Say it on standard error and end with exit code 1."""
    print(f"authsvc: {text}", file=sys.stderr)
    raise typer.Exit(1)


def id_of_16_bytes(text: str, field: str) -> bytes:
    """An id in hexadecimal, as an enrolment's or a ceremony's. Refused("malformed")."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 16:
        raise Refused("malformed", field=field)
    return value


def local_time(at: float | None) -> str:
    """Unix seconds for people; empty for None."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def without_markup(text: str) -> str:
    """Text that somebody chose, in a table."""
    return text.replace("[", "\\[")
