"""Arguments that several commands of `tandem-device` take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Vault = Annotated[Path, typer.Argument(help="The vault file.")]
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="The vault's key file. Default: the vault's name with suffix .key.")
]
VaultPassphrase = Annotated[
    Path | None,
    typer.Option("--vault-passphrase-file", help="File with the vault's passphrase. Default: it is asked for."),
]
CaFile = Annotated[str | None, typer.Option("--ca-file", help="PEM certificates to trust instead of the system's.")]
