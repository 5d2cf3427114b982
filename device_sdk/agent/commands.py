"""`tandem-device agent` and what goes with it: enrolling a person, pairing a browser, finding the extension.

The agent itself is imported when it is started: the other commands need no web server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from device_sdk.agent.extension_identity import extension_folder as folder_of_extension
from device_sdk.agent.pairing import PairingKey, pairing_file
from device_sdk.biometrics import SimulatedSensor
from device_sdk.biometrics.face import FaceEncoder
from device_sdk.command_errors import about, errors_for_people
from device_sdk.command_files import VaultKeyChoice, passphrase_from
from device_sdk.command_options import CaFile, KeyFileOption, Vault, VaultPassphrase
from device_sdk.device import Device
from device_sdk.errors import VaultMissing
from device_sdk.server_api import ServerApi
from device_sdk.transport import HttpTransport
from device_sdk.vault import KeyFile, Passphrase, VaultKey, default_vault_key

_DEFAULT_PORT = 8653

Port = Annotated[int, typer.Option(help="The agent's port on 127.0.0.1.", min=0, max=65535)]
SimulatedPerson = Annotated[
    int | None,
    typer.Option(help="For demonstrations: the simulated person of this number, before a sensor that measures nobody."),
]


def enrol(
    vault: Annotated[Path, typer.Argument(help="The vault file to make.")],
    pictures: Annotated[
        list[Path] | None, typer.Argument(help="Three to ten pictures of the person's face, for face profiles.")
    ] = None,
    *,
    server: Annotated[str, typer.Option(help="The authentication server's https address.")],
    profile: Annotated[str, typer.Option(help="Name of the server's matching profile.")] = "face-2048",
    code: Annotated[str | None, typer.Option(help="The operator's code. Default: it is asked for.")] = None,
    simulated_person: SimulatedPerson = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Protect the vault by a new key file. Default: by the platform's key store.")
    ] = None,
    vault_passphrase_file: Annotated[
        Path | None, typer.Option(help="Protect the vault by a passphrase, in the first line of this file.")
    ] = None,
    ca_file: CaFile = None,
) -> None:
    """Enrol a person on this computer: a new vault, with the operator's code and three or more captures."""
    with errors_for_people():
        encoder = FaceEncoder() if simulated_person is None else None
        captures: Sequence[Any] = pictures or []
        with about(vault):
            if simulated_person is not None:
                captures = _simulated_captures(server, ca_file, profile, simulated_person)
            asked = code if code is not None else str(typer.prompt("Code from the operator"))
            Device.enrol(
                server=server,
                enrolment_code=asked,
                captures=captures,
                vault=vault,
                profile=profile,
                encoder=encoder,
                vault_key=_new_vault_key(vault, key_file, vault_passphrase_file),
                ca_file=ca_file,
            ).close()
    typer.echo(f"enrolled: {vault}")


def agent(
    vault: Vault,
    port: Port = _DEFAULT_PORT,
    simulated_person: SimulatedPerson = None,
    longest_s: Annotated[float, typer.Option(help="How long a request may wait, whatever its page allows.")] = 600.0,
    timings: Annotated[
        Path | None, typer.Option(help="Append what each request took, a line of JSON without names, to this file.")
    ] = None,
    key_file: KeyFileOption = None,
    vault_passphrase_file: VaultPassphrase = None,
    ca_file: CaFile = None,
) -> None:
    """Answer the browser extension with the passkeys of this vault, until stopped with Ctrl-C.

    Listens on this computer only. Each request is shown in a window, and is signed only after consent there with a
    capture that matches.
    """
    from device_sdk.agent.server import AgentSettings, serve

    with errors_for_people(), about(vault):
        settings = AgentSettings(
            vault=vault,
            vault_key=VaultKeyChoice(key_file, vault_passphrase_file).key_of(vault),
            ca_file=ca_file,
            port=port,
            simulated_person=simulated_person,
            longest_s=longest_s,
            timings=timings,
        )
        serve(settings, _ready)


def pairing_code(
    vault: Vault,
    port: Port = _DEFAULT_PORT,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new code; browsers paired before must pair again.")
    ] = False,
) -> None:
    """Show the code to paste into the extension's settings, once for each browser. Keep it to yourself.

    After --renew, start the agent anew.
    """
    with errors_for_people():
        if not vault.exists():
            with about(vault):
                raise VaultMissing
        file = pairing_file(vault)
        if renew:
            file.unlink(missing_ok=True)
        with about(file):
            key = PairingKey.load_or_make(file)
    typer.echo(key.code(port))


def extension_folder() -> None:
    """Show the folder to load in Chromium: chrome://extensions, Developer mode, Load unpacked."""
    typer.echo(str(folder_of_extension()))


def _ready(address: str, profile: str) -> None:
    typer.echo(f"listening on {address} with profile {profile}; Ctrl-C ends it")


def _simulated_captures(server: str, ca_file: str | None, profile_name: str, person: int) -> list[Any]:
    transport = HttpTransport(server, ca_file=ca_file)
    try:
        profile = ServerApi(transport).profile(profile_name)
    finally:
        transport.close()
    return list(SimulatedSensor(person, profile.code_bits, profile.masked).captures(3))


def _new_vault_key(vault: Path, key_file: Path | None, passphrase_file: Path | None) -> VaultKey:
    if key_file is not None:
        return KeyFile(key_file)
    if passphrase_file is not None:
        return Passphrase(passphrase_from(passphrase_file, "Passphrase of the vault"))
    return default_vault_key(vault)
