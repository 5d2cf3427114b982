"""Where a device's state lies, as a port: the vault file of this SDK, or a store that the app brings."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from device_sdk.errors import VaultExists, VaultMissing
from device_sdk.vault.file import VaultFile
from device_sdk.vault.keys import VaultKey, default_vault_key


class Vault(Protocol):
    """One secret value, replaced as a whole. `VaultFile` is the reference.

    Duties of whoever brings another. Durable: once `write` has returned, no crash, power cut or restart brings the
    former value back, for an index that is used a second time looks like the theft of this device. Whole: after a
    crash there is the old value or the new one. Secret: encrypted under a key that is in no backup, and so is no copy
    of the value. Alone: one opener at a time. Calls come from several threads, one after the other.
    """

    def read(self) -> bytes:
        """The value written last. Raises VaultMissing before the first `write`, VaultCorrupt for a damaged one."""

    def write(self, payload: bytes) -> None:
        """Replace the value, durably. Raises VaultUnusable; the old value or the new one is there then."""

    def close(self) -> None:
        """Let others open it. Nothing is written after that."""


def new_vault(vault: str | Path | Vault, key: VaultKey | None) -> Vault:
    """A vault without a value yet: the app's own, or a new file, under the platform's key store unless `key` is given.

    Raises VaultExists and what `VaultFile.create` raises; ValueError for a key beside a vault of the app's own.
    """
    if isinstance(vault, str | Path):
        return VaultFile.create(vault, key or default_vault_key(vault))
    _refuse_key(key)
    try:
        vault.read()
    except VaultMissing:
        return vault
    raise VaultExists("the app's own vault holds an enrolment already; it was not touched")


def existing_vault(vault: str | Path | Vault, key: VaultKey | None) -> Vault:
    """A vault that was enrolled before. Raises what `VaultFile.open` raises, and ValueError as `new_vault` does."""
    if isinstance(vault, str | Path):
        return VaultFile.open(vault, key or default_vault_key(vault))
    _refuse_key(key)
    return vault


def discard(vault: Vault) -> None:
    """Close a new vault whose enrolment failed, and leave no file behind."""
    vault.close()
    if isinstance(vault, VaultFile):
        with contextlib.suppress(FileNotFoundError):
            vault.path.unlink()


def _refuse_key(key: VaultKey | None) -> None:
    if key is not None:
        raise ValueError("vault_key is the key of a vault file; a vault of the app's own has its own")
