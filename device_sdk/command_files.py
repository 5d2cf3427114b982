"""What `tandem-device` reads and writes: keys of vaults, passphrases, exports, and documents for programs."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import typer

from device_sdk.biometrics import BinaryCode
from device_sdk.history import History
from device_sdk.vault import KeyFile, KeySource, Passphrase, VaultKey, VaultKeyUnavailable, default_vault_key
from device_sdk.vault.file import key_source
from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient

_MAX_PASSPHRASE_BYTES = 4096
_MAX_CAPTURE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class VaultKeyChoice:
    """How the person at the command says where vault keys are."""

    key_file: Path | None
    passphrase_file: Path | None
    _asked: dict[str, Passphrase] = field(default_factory=dict, repr=False)

    def key_of(self, vault: Path) -> VaultKey:
        """The key for this vault, of the kind that its header names. A passphrase is asked for once a command.

        Raises VaultMissing, VaultCorrupt, VaultUnusable, VaultKeyUnavailable; ValueError for a passphrase too short.
        """
        match key_source(vault):
            case KeySource.KEY_FILE:
                return KeyFile(self.key_file or vault.with_suffix(".key"))
            case KeySource.PASSPHRASE:
                if not self._asked:
                    self._asked[""] = Passphrase(passphrase_from(self.passphrase_file, "Passphrase of the vault"))
                return self._asked[""]
            case KeySource.PLATFORM:
                return default_vault_key(vault)
            case KeySource.APPLICATION:
                raise VaultKeyUnavailable("only the app that made this vault has its key; call its SDK from that app")


def read_capture(file: Path) -> BinaryCode:
    """A code from a .npy file: n zeros and ones, or two rows of them, code and mask. ValueError, EncodingError."""
    if file.stat().st_size > _MAX_CAPTURE_BYTES:
        raise ValueError(f"{_shown(file)}: is too large for a code")
    try:
        values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(f"{_shown(file)}: is no .npy file") from None
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[0] == 2:
        return BinaryCode(values[0], values[1])
    return BinaryCode(values)


def grouped(samples: list[BinaryCode], templates: int) -> list[BinaryCode] | list[list[BinaryCode]]:
    """One group for each template, of one size. ValueError if they cannot be."""
    if templates == 1:
        return samples
    size, over = divmod(len(samples), templates)
    if over:
        raise ValueError(f"this enrolment has {templates} templates; give as many captures for each")
    return [samples[at : at + size] for at in range(0, len(samples), size)]


def _shown(file: Path) -> str:
    return str(file) if str(file).isprintable() else "-"


def passphrase_from(file: Path | None, prompt: str, *, confirm: bool = False) -> str:
    """A passphrase from the first line of a file, or typed in without echo.

    An ordinary file must be its owner's alone. Raises ValueError for one that is not, or that is not such text.
    """
    if file is None:
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=confirm))
    with file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError("the passphrase file is open to other users; set its mode to 0600")
        content = opened.read(_MAX_PASSPHRASE_BYTES + 1)
    line = content.split(b"\n", 1)[0].removesuffix(b"\r")
    if len(content) > _MAX_PASSPHRASE_BYTES or not line:
        raise ValueError("the passphrase file must have the passphrase in its first line")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the passphrase file must be UTF-8 text") from None


def history_document(read: History) -> dict[str, Any]:
    """A history for programs, newest first."""
    return {
        "logins": [
            {
                "at": login.at,
                "rp_id": login.rp_id,
                "credential_id": base64url.encode(login.credential_id),
                "kind": login.kind,
                "ot_index": login.ot_index,
                "epoch": login.epoch,
                "confirmed_at": login.confirmed_at,
            }
            for login in read.logins
        ],
        "events": [
            {"seq": event.seq, "at": event.at, "name": event.name, "detail": event.detail} for event in read.events
        ],
    }


def shown(text: str) -> str:
    """Text that somebody else chose, in a table: nothing in it may steer a terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text).replace("[", "\\[")


def require_no_file(path: Path) -> None:
    """Raises ValueError if there is anything at `path`, a link included."""
    if os.path.lexists(path):
        raise ValueError("there is a file of this name already; choose another one")


def require_replaceable(path: Path) -> None:
    """Raises ValueError if there is anything at `path` but a recipient file: a vault, a key, somebody's notes."""
    try:
        with path.open("rb") as file:
            Recipient.decode(file.read(MAX_RECIPIENT_BYTES + 1))
    except FileNotFoundError:
        pass
    except (OSError, DecodeError):
        raise ValueError("there is something else of this name, not a recipient file; choose another one") from None


def write_recipient(path: Path, made: Recipient) -> None:
    """Put the file at `path`, whole or not at all, and on disk when this returns. Only its like is replaced.

    Raises OSError; ValueError as `require_replaceable`.
    """
    require_replaceable(path)
    # A name of its own beside the target: two commands at once do not meet, and the rename stays on one disk.
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    _write(fresh, made.document, mode=0o644)
    try:
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    _settle(path.parent)


def write_new(path: Path, secret: bytes) -> None:
    """A new file of the owner's alone, on disk when this returns. Raises OSError; ValueError if there is one already.

    Written in place: not every exchange medium can give a finished file its name only if that name is free. A power
    cut may leave a part of it, which opens under no passphrase.
    """
    require_no_file(path)
    _write(path, secret, mode=0o600)
    _settle(path.parent)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Into a file that this call makes, and takes away again if it fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def _settle(folder: Path) -> None:
    """The names in the folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
