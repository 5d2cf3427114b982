"""The commands of `tandem-keys`: what a security team does on its offline machine.

It needs no network and no settings. Everything it makes is in the folder given with --out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from keys import cli_options as options
from keys.ceremony.ceremony_key import fingerprint_of, write_ceremony_key
from keys.ceremony.checking import DOES_NOT_PROVE, PROVES, CheckedFolder, check_folder
from keys.ceremony.comparison import compare_recipients, compare_signer
from keys.ceremony.input_files import CeremonyFolder, read_input
from keys.ceremony.inspection import MAX_INSPECTED_BYTES, look_at
from keys.ceremony.output_folder import refuse_existing
from keys.ceremony.recipients import RecipientFile, read_devices, read_recipient, refuse_mixed_servers
from keys.ceremony.record import Attendance
from keys.ceremony.rewrapping import (
    REPLACED_SIGNER,
    REPLACED_SIGNER_COMPARED,
    RewrapPlan,
    refuse_unfit_successor,
    rewrap,
)
from keys.dealing.new_ceremony import DealingPlan, generate, import_sources
from keys.dealing.processes import available_processes
from keys.dealing.trial_signature import TrialFailed
from keys.escrow.cli import app as escrow
from keys.refusal import Refusal, printable
from keys.sources.source_files import load_sources, match_devices
from keys.terminal import new_passphrase, progress_bar, read_passphrase, read_text_passphrase, tell
from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.provisioning.ceremony import CeremonyError
from mpc.provisioning.manifest import RECIPIENTS_COMPARED, Manifest
from mpc.provisioning.recipient_key import MAX_KEY_FILE_BYTES, RecipientKey
from mpc.provisioning.times import to_text
from mpc.threshold_rsa.share_package import Role

app = typer.Typer(
    name="tandem-keys",
    help="Deal RSA keys in two sealed halves, on a machine without a network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(escrow, name="escrow")


class Bits(StrEnum):
    """Sizes of new keys."""

    B2048 = "2048"
    B3072 = "3072"
    B4096 = "4096"


@app.command(name="generate")
def generate_command(
    server: options.Server,
    device: options.Devices,
    rp_id: options.RpId,
    out: options.Out,
    bits: Annotated[Bits, typer.Option(help="Length of the modulus.")] = Bits.B2048,
    count: Annotated[int, typer.Option(help="Keys for each device.", min=1, max=options.MAX_COUNT)] = 1,
    operator: options.Operators = None,
    witness: options.Witnesses = None,
    not_after: options.NotAfter = None,
    valid_days: options.ValidDays = None,
    ceremony_key: options.CeremonyKey = None,
    ceremony_passphrase_file: options.CeremonyPassphraseFile = None,
    expect: options.Expect = None,
    not_compared: options.NotCompared = False,
    processes: Annotated[int | None, typer.Option(help="Default: one a core.", min=1, max=256)] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make keys, split them, and seal each half to its holder."""
    end = options.end_of_validity(not_after, valid_days, int(time.time()))
    comparison = options.comparison(expect, not_compared)
    with _errors_for_operators(out):
        there = options.attendance(operator, witness, ceremony_key, ceremony_passphrase_file)
        holder, devices = _recipients(server, device, out)
        compared = compare_recipients((holder, *devices), comparison)
        parameters = {"bits": bits.value, "keys for each device": str(count), RECIPIENTS_COMPARED: compared}
        plan = _plan(out, holder, devices, rp_id, end, there, parameters)
        each_key = [item.recipient for item in devices for _ in range(count)]
        if len(each_key) > options.MAX_COUNT:
            raise Refusal("too_many", f"one ceremony deals at most {options.MAX_COUNT} keys; hold several")
        with progress_bar("dealing keys") as progress:
            manifest = generate(plan, each_key, int(bits.value), processes or available_processes(), progress, tell)
    _tell_result(out, manifest, there, as_json)


@app.command(name="import")
def import_command(
    key: Annotated[list[Path], typer.Argument(help="Private RSA keys: PEM, DER, PKCS#12.")],
    server: options.Server,
    device: options.Devices,
    rp_id: options.RpId,
    out: options.Out,
    operator: options.Operators = None,
    witness: options.Witnesses = None,
    not_after: options.NotAfter = None,
    valid_days: options.ValidDays = None,
    ceremony_key: options.CeremonyKey = None,
    ceremony_passphrase_file: options.CeremonyPassphraseFile = None,
    passphrase_file: options.PassphraseFile = None,
    allow_exponent: Annotated[bool, typer.Option("--allow-exponent", help="Take e other than 65537.")] = False,
    expect: options.Expect = None,
    not_compared: options.NotCompared = False,
    as_json: options.AsJson = False,
) -> None:
    """Split existing keys, and seal each half to its holder. With a folder of devices, alice.pem is for alice.json."""
    end = options.end_of_validity(not_after, valid_days, int(time.time()))
    comparison = options.comparison(expect, not_compared)
    with _errors_for_operators(out):
        there = options.attendance(operator, witness, ceremony_key, ceremony_passphrase_file)
        holder, devices = _recipients(server, device, out)
        each_key = match_devices(key, devices, one_file=not device.is_dir())
        compared = compare_recipients((holder, *devices), comparison, names_decide=device.is_dir())
        parameters = {"keys imported": str(len(key)), RECIPIENTS_COMPARED: compared}
        plan = _plan(out, holder, devices, rp_id, end, there, parameters)
        sources = load_sources(key, lambda what: read_passphrase(passphrase_file, what), allow_exponent=allow_exponent)
        with progress_bar("dealing keys") as progress:
            manifest = import_sources(plan, each_key, sources, progress, tell)
    _tell_result(out, manifest, there, as_json)
    tell("Now destroy the sources, with every copy and backup: whoever has one needs neither half.")
    for path in key:
        tell(f"  {path}")


@app.command(name="rewrap")
def rewrap_command(
    folder: Annotated[Path, typer.Argument(help="The ceremony's folder.")],
    key: Annotated[Path, typer.Option("--key", help="The replaced recipient's private key file.")],
    to: Annotated[Path, typer.Option("--to", help="The new recipient's file.")],
    out: options.Out,
    operator: options.Operators = None,
    witness: options.Witnesses = None,
    ceremony_key: options.CeremonyKey = None,
    ceremony_passphrase_file: options.CeremonyPassphraseFile = None,
    passphrase_file: options.PassphraseFile = None,
    expect: options.Expect = None,
    not_compared: options.NotCompared = False,
    ceremony_key_fingerprint: options.CeremonyKeyFingerprint = None,
    as_json: options.AsJson = False,
) -> None:
    """Seal the halves of a replaced recipient to its successor."""
    expected = options.fingerprint_value(ceremony_key_fingerprint)
    comparison = options.comparison(expect, not_compared)
    with _errors_for_operators(out):
        there = options.attendance(operator, witness, ceremony_key, ceremony_passphrase_file)
        refuse_existing(out.absolute())
        old = _recipient_key(key, read_text_passphrase(passphrase_file, str(key)))
        new = read_recipient(to, old.recipient.role)
        checked = _checked(folder, (), expected)
        refuse_unfit_successor(checked, old.recipient, new.recipient)
        # Whoever signs a rewrap answers for the folder that it replaces: a forged one would get a real signature.
        signer = checked.ceremony.signed.fingerprint
        parameters = {
            REPLACED_SIGNER: signer,
            REPLACED_SIGNER_COMPARED: compare_signer(signer, expected),
            "replaced recipient": old.recipient.fingerprint,
            "new recipient": new.recipient.fingerprint,
            RECIPIENTS_COMPARED: compare_recipients([new], comparison),
        }
        names = {new.recipient.id: new.name}
        with progress_bar("sealing halves") as progress:
            plan = RewrapPlan(checked, old, new.recipient, out, there, parameters, names)
            manifest = rewrap(plan, progress, tell)
    _tell_result(out, manifest, there, as_json)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The ceremony's folder.")],
    ceremony_key_fingerprint: options.CeremonyKeyFingerprint = None,
    role: Annotated[
        Role | None, typer.Option(help="Only this side's halves must be there: a folder as it was delivered.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check every signature and every hash of a ceremony's folder."""
    expected = options.fingerprint_value(ceremony_key_fingerprint)
    with _errors_for_operators(None):
        checked = _checked(folder, tuple(Role) if role is None else (role,), expected)
    manifest, fingerprint = checked.ceremony.manifest, checked.ceremony.signed.fingerprint
    if as_json:
        told = {"ceremony_key_compared": bool(expected), "parameters": dict(manifest.parameters)}
        meaning = {"proves": PROVES, "does_not_prove": DOES_NOT_PROVE}
        _print_json({"verified": True, **_summary(manifest, fingerprint), **told, **meaning})
        return
    print(f"verified: {_counted(manifest)} for {manifest.rp_id}, ceremony {manifest.ceremony_id.hex()}")
    print(
        f"ceremony's key: {fingerprint}" + (", as expected" if expected else ", compare it with the witnesses' notes")
    )
    print(f"{RECIPIENTS_COMPARED}: {manifest.parameters.get(RECIPIENTS_COMPARED, 'not recorded')}")
    for name in (REPLACED_SIGNER, REPLACED_SIGNER_COMPARED):
        if name in manifest.parameters:
            print(f"{name}: {manifest.parameters[name]}")
    print(f"This proves that {PROVES}.")
    print(f"It does not prove {DOES_NOT_PROVE}.")


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A recipient, share, manifest or recipient key file.")],
    as_json: options.AsJson = False,
) -> None:
    """Show what can be seen without opening."""
    with _errors_for_operators(None):
        seen = look_at(read_input(file, at_most=MAX_INSPECTED_BYTES))
    if as_json:
        _print_json(seen)
        return
    _print_seen(seen)


@app.command()
def ceremony_key(
    out: Annotated[Path, typer.Option("--out", help="File to make; it must not exist.")],
    ceremony_passphrase_file: options.CeremonyPassphraseFile = None,
) -> None:
    """Make a lasting key for signing manifests, under a passphrase."""
    with _errors_for_operators(out):
        made = write_ceremony_key(out, new_passphrase(ceremony_passphrase_file, str(out)))
    print(f"ceremony's key: {fingerprint_of(made)}")


def _recipients(server: Path, device: Path, out: Path) -> tuple[RecipientFile, tuple[RecipientFile, ...]]:
    refuse_existing(out.absolute())
    holder, devices = read_recipient(server, Role.SERVER), read_devices(device)
    refuse_mixed_servers(holder, devices)
    return holder, devices


def _plan(
    out: Path,
    server: RecipientFile,
    devices: Sequence[RecipientFile],
    rp_id: str,
    end: int | None,
    there: Attendance,
    parameters: dict[str, str],
) -> DealingPlan:
    names = {file.recipient.id: file.name for file in (server, *devices)}
    return DealingPlan(out, server.recipient, options.rp_id_value(rp_id), end, there, parameters, names)


def _recipient_key(path: Path, passphrase: str) -> RecipientKey:
    try:
        return RecipientKey.unprotect(read_input(path, at_most=MAX_KEY_FILE_BYTES), passphrase)
    except DecodeError as error:
        raise Refusal("recipient_key", f"{path} {error.problem}") from None


def _checked(folder: Path, roles: tuple[Role, ...], expected_fingerprint: str | None) -> CheckedFolder:
    with progress_bar("checking files") as progress:
        return check_folder(
            CeremonyFolder(folder), roles=roles, expected_fingerprint=expected_fingerprint, progress=progress
        )


def _tell_result(out: Path, manifest: Manifest, there: Attendance, as_json: bool) -> None:
    if as_json:
        elapsed = manifest.finished_at - manifest.started_at
        _print_json({"out": str(out), "seconds": elapsed, **_summary(manifest, there.fingerprint)})
        return
    print(f"done: {_counted(manifest)} for {manifest.rp_id} in {out}")
    print(f"ceremony: {manifest.ceremony_id.hex()}, revision {manifest.revision}")
    print("ceremony's key, for the witnesses to write down and sign:")
    print(f"  {there.fingerprint}")


def _summary(manifest: Manifest, fingerprint: str) -> dict[str, Any]:
    return {
        "ceremony_id": manifest.ceremony_id.hex(),
        "ceremony_key": fingerprint,
        "kind": manifest.kind.value,
        "revision": manifest.revision,
        "rp_id": manifest.rp_id,
        "not_after": None if manifest.not_after is None else to_text(manifest.not_after),
        "recipients": len(manifest.recipients),
        "keys": [base64url.encode(dealt.key.key_id) for dealt in manifest.keys],
    }


def _counted(manifest: Manifest) -> str:
    return "1 key" if len(manifest.keys) == 1 else f"{len(manifest.keys)} keys"


def _print_seen(seen: dict[str, Any]) -> None:
    for name, value in seen.items():
        if isinstance(value, dict):
            value = [f"{key}: {text}" for key, text in value.items()]
        if isinstance(value, list):
            value = "".join(f"\n  {entry}" for entry in value)
        print(f"{name.replace('_', ' ')}: {'none' if value is None else value}")


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=True))


@contextmanager
def _errors_for_operators(out: Path | None) -> Iterator[None]:
    """One sentence on standard error and exit code 1 for what an operator can put right; anything else is a bug and
    raises. 130 for Ctrl-C.
    """
    try:
        yield
    except (Refusal, CeremonyError) as error:
        _fail(str(error))
    except TrialFailed as error:
        _fail(f"{error}. {' '.join((TrialFailed.__doc__ or '').split())}")
    except OSError as error:
        _fail(f"{out or error.filename}: {error.strerror}; {_what_remains(out)}")
    except KeyboardInterrupt:
        print(f"\ntandem-keys: interrupted; {_what_remains(out)}", file=sys.stderr)
        raise typer.Exit(130) from None


def _what_remains(out: Path | None) -> str:
    # Between the rename and the end of the program, the result is there and must not be denied.
    return (
        "nothing was made" if out is None or not out.exists() else f"{out} exists, check it with `tandem-keys verify`"
    )


def _fail(text: str) -> NoReturn:
    # Names of files and of recipients may be a stranger's.
    print(f"tandem-keys: {printable(text)}", file=sys.stderr)
    raise typer.Exit(1)
