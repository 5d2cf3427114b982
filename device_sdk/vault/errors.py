"""Faults of the vault that lie outside the vault file: its key source and its disk."""

from __future__ import annotations

from device_sdk.errors import Advice, TandemError


class VaultKeyUnavailable(TandemError):
    """The key source gives no usable key / unlock the key store or restore the key file."""

    code = "vault_key_unavailable"
    advice = Advice.ASK_USER
    message = "the key of the vault is not available; unlock the key store or restore the key file"


class VaultUnusable(TandemError):
    """The system refused to read, write or lock the vault / free the disk or fix the folder."""

    code = "vault_unusable"
    advice = Advice.ASK_USER
    message = "the vault's disk or folder refuses; free space or fix its permissions and call again"
