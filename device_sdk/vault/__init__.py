"""State at rest: one encrypted, locked, crash-safe file, and where its key comes from."""

from __future__ import annotations

from device_sdk.vault.errors import VaultKeyUnavailable, VaultUnusable
from device_sdk.vault.file import VaultFile
from device_sdk.vault.header import KeyRecipe, KeySource
from device_sdk.vault.keys import KeyFile, Passphrase, PlatformKey, VaultKey, default_vault_key, new_salt
from device_sdk.vault.port import Vault

__all__ = [
    "KeyFile",
    "KeyRecipe",
    "KeySource",
    "Passphrase",
    "PlatformKey",
    "Vault",
    "VaultFile",
    "VaultKey",
    "VaultKeyUnavailable",
    "VaultUnusable",
    "default_vault_key",
    "new_salt",
]
