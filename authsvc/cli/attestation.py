"""Commands about attestations: the authority that signs them, and the statement that tells relying parties of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding

from ..attestation_certificates import AttestationAuthority, fingerprint
from ..services import attestation as authority
from ..services import metadata_statement as metadata
from ..settings import SettingsError
from .files import write_over
from .shell import OUT, context, local_time

app = typer.Typer(help="The attestation authority: make, show, export, renew.", no_args_is_help=True)


def add_commands(parent: typer.Typer) -> None:
    """Put the group and the command of this file into the application."""
    parent.add_typer(app, name="attestation")
    parent.command()(metadata_statement)


@app.command()
def init(
    country: Annotated[str, typer.Option(help="Where your organization is registered: two letters of ISO 3166.")],
    organization: Annotated[str, typer.Option(help="Its legal name, for the certificates.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make another one in place of the present one.")] = False,
) -> None:
    """Make a root and the first attestation certificate. From then on registrations that ask for it are attested."""
    with context() as ctx:
        made = authority.create(ctx, country=country, organization=organization, replace=replace)
    _print(made)


@app.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="JSON instead of lines.")] = False) -> None:
    """Show fingerprints and validity of root and attestation certificate."""
    with context() as ctx:
        found = authority.current(ctx)
    if as_json:
        OUT.print(json.dumps(_document(found), indent=2), markup=False)
    else:
        _print(found)


@app.command()
def export_root(
    out: Annotated[Path | None, typer.Option(help="Write the file here instead of standard output.")] = None,
) -> None:
    """Write the root certificate as PEM, for relying parties that verify attestations."""
    with context() as ctx:
        pem = authority.current(ctx).root.public_bytes(Encoding.PEM)
    _write(pem, out)


@app.command()
def renew() -> None:
    """Make a new attestation key and certificate under the same root now; the server does it by itself in time."""
    with context() as ctx:
        renewed = authority.renew(ctx)
    _print(renewed)


def metadata_statement(
    out: Annotated[Path | None, typer.Option(help="Write the file here instead of standard output.")] = None,
    description: Annotated[str, typer.Option(help="What relying parties show of it; ASCII.")] = metadata.DESCRIPTION,
    method: Annotated[
        list[str] | None,
        typer.Option(help="PROFILE=METHOD for a profile of your own: hand-2048=handprint_internal. Repeatable."),
    ] = None,
) -> None:
    """Write the FIDO metadata statement (MDS 3) of the authenticator that this server is half of."""
    with context() as ctx:
        methods = _methods(method or [])
        if ctx.policy.attestation == "off":
            raise SettingsError("attestation: is off, so there is nothing that a statement could be about")
        try:
            statement = metadata.metadata_statement(
                ctx.policy, authority.current(ctx), description=description, methods=methods
            )
        except ValueError as error:
            raise SettingsError(str(error)) from None
        unmeasured = metadata.unverified_profiles(ctx.policy, methods)
    _write(json.dumps(statement, indent=2).encode("ascii") + b"\n", out)
    if unmeasured:
        print(
            f"authsvc: the statement says that users may not be verified at all, because of {', '.join(unmeasured)}:"
            " take simulated profiles out of the settings, and tell with --method what your own ones measure",
            file=sys.stderr,
        )


def _methods(given: list[str]) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if not all(sign for _, sign, _ in pairs):
        raise SettingsError("--method: PROFILE=METHOD")
    return {profile: method for profile, _, method in pairs}


def _document(found: AttestationAuthority) -> dict[str, object]:
    return {
        name: {
            "sha256": fingerprint(certificate),
            "subject": certificate.subject.rfc4514_string(),
            "not_before": int(certificate.not_valid_before_utc.timestamp()),
            "not_after": int(certificate.not_valid_after_utc.timestamp()),
        }
        for name, certificate in (("root", found.root), ("certificate", found.certificate))
    }


def _print(found: AttestationAuthority) -> None:
    for name, certificate in (("root", found.root), ("attestation certificate", found.certificate)):
        until = local_time(certificate.not_valid_after_utc.timestamp())
        OUT.print(f"{name}: {certificate.subject.rfc4514_string()}, until {until}", markup=False)
        OUT.print(f"  SHA-256 {fingerprint(certificate)}", markup=False)


def _write(content: bytes, out: Path | None) -> None:
    if out is not None:
        write_over(out, content)
        OUT.print(f"written: {out}", markup=False)
        return
    sys.stdout.write(content.decode("ascii"))
    sys.stdout.flush()
