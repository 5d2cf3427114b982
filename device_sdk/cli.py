"""`tandem-device`: provisioned keys and the history of an enrolment, for vaults that a person or a script looks after.

Each command but `calibrate` opens the vault as an app would, so no app may have it open meanwhile. Only `import-share`,
`delete`, `rotate-template` and `history` speak to the server.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from device_sdk.agent.commands import agent, enrol, extension_folder, pairing_code
from device_sdk.calibration_files import write_calibration
from device_sdk.command_errors import about, errors_for_people, fail
from device_sdk.command_files import (
    VaultKeyChoice,
    grouped,
    history_document,
    passphrase_from,
    read_capture,
    require_no_file,
    require_replaceable,
    shown,
    write_new,
    write_recipient,
)
from device_sdk.command_options import CaFile, KeyFileOption, Vault, VaultPassphrase
from device_sdk.device import Device
from device_sdk.expiry import Expiring
from mpc.primitives import base64url
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.times import to_text

app = typer.Typer(
    name="tandem-device",
    help="Vaults of Tandem devices: provisioned keys, passkeys, and the history of an enrolment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# A pipe has no width: what programs and people grep through is then not squeezed into 80 columns.
_out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


@app.command()
def recipient(
    vaults: Annotated[list[Path], typer.Argument(help="One vault file, or the vaults of a fleet.")],
    out: Annotated[Path, typer.Option(help="The recipient file; for several vaults a folder for <enrolment id>.json.")],
    suite: Annotated[HpkeSuite | None, typer.Option(help="Encryption of shares; x25519 unless told otherwise.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the device for the people who deal.")] = None,
    renew: Annotated[
        bool,
        typer.Option(
            "--renew",
            help="Make a new one; shares sealed to the old one are lost, unless its key was exported before.",
        ),
    ] = False,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
) -> None:
    """Write the public file that dealers seal to, and print its fingerprint to read to them.

    A recipient file of that name is replaced; any other file is left alone.
    """
    into_folder = len(vaults) > 1 or out.is_dir()
    keys = VaultKeyChoice(key_file, vault_passphrase_file)
    with errors_for_people():
        if into_folder:
            out.mkdir(parents=True, exist_ok=True)
        for vault in vaults:
            with _opened(vault, keys) as device:
                target = out / f"{device.enrolment_id.hex()}.json" if into_folder else out
                with about(target):
                    require_replaceable(target)  # before a renewal forgets the old one
                made = device.recipient(suite=suite, name=name, renew=renew)
            write_recipient(target, made)
            _out.print(f"{made.fingerprint}  {target}", markup=False)


@app.command()
def import_share(
    vault: Vault,
    files: Annotated[list[Path], typer.Argument(help="Share files of this device.")],
    manifest: Annotated[Path | None, typer.Option(help="The ceremony's manifest.json; with --ceremony-key.")] = None,
    ceremony_key: Annotated[
        str | None, typer.Option(help="Fingerprint of the ceremony's key, from its witnesses: who dealt the shares.")
    ] = None,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
    ca_file: CaFile = None,
) -> None:
    """Take in this device's halves of dealt keys, one file after the other; stops at the first that is refused.

    Files taken in before stay, and giving them again is harmless. Without --manifest and --ceremony-key the server
    alone vouches for who dealt them.
    """
    with errors_for_people(), _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file), ca_file) as device:
        for file in files:
            known = {key.key_id for key in device.provisioned()}
            with about(file):
                key = device.import_share(file, manifest=manifest, ceremony_key=ceremony_key)
            told = "in use already" if key.in_use else "waits already" if key.key_id in known else "imported"
            _out.print(f"{told}: {base64url.encode(key.key_id)} for {key.rp_id}, {_expiry(key)}", markup=False)


@app.command()
def calibrate(
    data: Annotated[Path, typer.Argument(help="An .npz file with arrays embeddings (samples, dimensions) and labels.")],
    out: Annotated[Path, typer.Option(help="Folder for constants.npz, calibration.json and three pictures.")],
    model: Annotated[str, typer.Option(help="Name of the model, for the encoder's id and the projection.")],
    fmr: Annotated[float, typer.Option(help="The false match rate wanted.")] = 1e-4,
) -> None:
    """Make an encoder of another model's embeddings: constants, code length, threshold, and what they achieve."""
    with errors_for_people():
        document = write_calibration(data, out, model, fmr)
    _out.print(json.dumps(document, indent=2), markup=False)


@app.command()
def provisioned(
    vault: Vault,
    as_json: AsJson = False,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
) -> None:
    """List the dealt keys that wait for their registration."""
    with errors_for_people(), _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file)) as device:
        keys = device.provisioned()
    if as_json:
        documents = [
            {
                "key_id": base64url.encode(key.key_id),
                "rp_id": key.rp_id,
                "not_after": key.not_after,
                "ceremony_id": key.ceremony_id.hex(),
            }
            for key in keys
        ]
        _print_json({"provisioned": documents})
        return
    table = Table(Column("key id", no_wrap=True, min_width=43), "relying party", "expires", "ceremony")
    for key in keys:
        table.add_row(base64url.encode(key.key_id), key.rp_id, _expiry(key), key.ceremony_id.hex())
    _out.print(table)


@app.command()
def credentials(
    vault: Vault,
    as_json: AsJson = False,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
) -> None:
    """List the passkeys in use."""
    with errors_for_people(), _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file)) as device:
        held = device.credentials()
    documents = [
        {
            "id": base64url.encode(item.credential_id),
            "rp_id": item.rp_id,
            "user_name": item.user_name,
            "algorithm": item.algorithm,
            "modulus_bits": item.modulus_bits,
            "sign_count": item.sign_count,
            "discoverable": item.discoverable,
            "created_at": item.created_at,
            "not_after": item.not_after,
        }
        for item in held
    ]
    if as_json:
        _print_json({"credentials": documents})
        return
    columns = ("relying party", "user", "algorithm", "bits", "signatures", "expires")
    table = Table(Column("id", no_wrap=True, min_width=43), *columns)
    for item in held:
        # The user's name came from a relying party.
        user = shown(item.user_name)
        row = (item.rp_id, user, item.algorithm, str(item.modulus_bits), str(item.sign_count), _expiry(item))
        table.add_row(base64url.encode(item.credential_id), *row)
    _out.print(table)


@app.command()
def rotate_template(
    vault: Vault,
    captures: Annotated[
        list[Path],
        typer.Argument(
            help="Three or more codes of one person, each a .npy file of zeros and ones; with a mask two rows, the code"
            " first. For a profile with several templates the groups one after the other, all of one size."
        ),
    ],
    code: Annotated[str | None, typer.Option(help="The operator's code. Default: it is asked for.")] = None,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
    ca_file: CaFile = None,
) -> None:
    """Put a new template in place, with the operator's code; the passkeys stay.

    Unless the operator vouches for the person, one of the captures must match the present template. If an answer is
    lost, the same command finds out what became of it.
    """
    with errors_for_people():
        samples = [read_capture(file) for file in captures]
        with _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file), ca_file) as device:
            asked = code if code is not None else str(typer.prompt("Code from the operator"))
            device.rotate_template(asked, grouped(samples, device.templates))
    _out.print("rotated")


@app.command()
def history(
    vault: Vault,
    all_events: Annotated[
        bool, typer.Option("--events", help="Every event instead of the logins: recoveries, refusals, revocations.")
    ] = False,
    as_json: AsJson = False,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
    ca_file: CaFile = None,
) -> None:
    """Show every login ever signed in this enrolment's name, newest first, from the server's record, and check that.

    The vault remembers how far it has read: a server that changes the record later is told of.
    """
    with errors_for_people(), _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file), ca_file) as device:
        read = device.history()
    if as_json:
        _print_json(history_document(read))
    elif all_events:
        events = Table("number", Column("time", no_wrap=True), "event", "detail")
        for event in read.events:
            told = ", ".join(f"{name} {value}" for name, value in event.detail.items())
            events.add_row(str(event.seq), to_text(int(event.at)), event.name, shown(told))
        _out.print(events)
    else:
        logins = Table(Column("time", no_wrap=True), "relying party", "kind", Column("passkey", overflow="fold"))
        logins.add_column("confirmed")
        for login in read.logins:
            confirmed = "no" if login.confirmed_at is None else "yes"
            key_id = base64url.encode(login.credential_id)
            logins.add_row(to_text(int(login.at)), login.rp_id or "", login.kind, key_id, confirmed)
        _out.print(logins)


@app.command()
def delete(
    vault: Vault,
    credential_id: Annotated[str, typer.Argument(help="Id of a passkey or of a dealt key, base64url.")],
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
    ca_file: CaFile = None,
) -> None:
    """Give up a passkey or a dealt key for good, here and at the server."""
    with errors_for_people(), _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file), ca_file) as device:
        try:
            device.delete(base64url.decode(credential_id))
        except (KeyError, ValueError):
            fail("this vault holds no key of that id; see credentials and provisioned")
    _out.print("deleted")


@app.command()
def retire_recipient(
    vault: Vault,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
) -> None:
    """Forget the recipient's private key, once every share sealed to it is imported: nothing opens with it any more."""
    with errors_for_people(), _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file)) as device:
        device.retire_recipient()
    _out.print("retired")


@app.command()
def export_recipient_key(
    vault: Vault,
    out: Annotated[Path, typer.Option(help="The file to write, readable by its owner only.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="File with the passphrase for the export. Default: it is asked for.")
    ] = None,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
) -> None:
    """Write the recipient's private key under a passphrase, for `tandem-keys rewrap` when this device is replaced.

    Whoever has the file and the passphrase can open every half sealed to this device. No file is ever replaced.
    """
    with errors_for_people():
        with about(out):
            require_no_file(out)  # before a passphrase is asked for
        with _opened(vault, VaultKeyChoice(key_file, vault_passphrase_file)) as device:
            passphrase = passphrase_from(passphrase_file, "Passphrase for the exported key", confirm=True)
            exported = device.export_recipient_key(passphrase)
        write_new(out, exported)
    _out.print(f"written: {out}", markup=False)


for command in (enrol, agent, pairing_code, extension_folder):
    app.command()(command)


def main() -> None:
    """The `tandem-device` command."""
    app()


@contextmanager
def _opened(vault: Path, keys: VaultKeyChoice, ca_file: str | None = None) -> Iterator[Device]:
    with about(vault), Device.open(vault, vault_key=keys.key_of(vault), ca_file=ca_file) as device:
        yield device


def _expiry(key: Expiring) -> str:
    return "never expires" if key.not_after is None else f"until {to_text(key.not_after)}"


def _print_json(document: dict[str, Any]) -> None:
    _out.print(json.dumps(document, indent=2), markup=False)
