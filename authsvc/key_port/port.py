"""What every place for a key-encryption key (KEK) can do, and how it fails."""

from __future__ import annotations

import hmac
import os
from typing import Final, Literal, Protocol

from mpc.primitives.hashing import framed

KEK_ID_BYTES: Final = 16
KekKind = Literal["file", "pkcs11", "command"]
KeyFault = Literal["timeout", "not_started", "failed", "bad_answer", "other_key", "token", "not_held"]
_PROBE_OWNER = b"tandem probe"


class KeyUnavailable(Exception):
    """The key-encryption key cannot be used at the moment; nothing was changed.

    Look at the token, key service or command that the settings name; then try again.
    """

    def __init__(self, fault: KeyFault, text: str) -> None:
        """fault: for the log. text: for the operator at a terminal; nothing secret."""
        super().__init__(text)
        self.fault: KeyFault = fault


class WrappedKeyRefused(Exception):
    """A wrapped key does not open under this KEK for this owner: it was altered, moved, or wrapped by another."""


class KeyWrapper(Protocol):
    """One KEK. Safe to share between threads. All but `key_id` and `kind` may wait for a device or a network."""

    @property
    def key_id(self) -> bytes:
        """16 bytes that name the KEK in the database; they say nothing of the key."""

    @property
    def kind(self) -> KekKind:
        """Which implementation this is, for people."""

    def wrap(self, data_key: bytes, context: bytes) -> bytes:
        """The key under this KEK, bound to the context. Raises KeyUnavailable."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """What was wrapped with the same context. Raises WrappedKeyRefused, KeyUnavailable."""

    def close(self) -> None:
        """End sessions."""


def owner_context(owner_id: bytes) -> bytes:
    """What a wrapped data key is bound to, so that it does not open in the row of another owner."""
    return framed("tandem data key v1", owner_id)


def check_usable(wrapper: KeyWrapper) -> None:
    """Wrap and unwrap something that is worth nothing. Raises KeyUnavailable."""
    probe, context = os.urandom(32), owner_context(_PROBE_OWNER)
    try:
        opened = wrapper.unwrap(wrapper.wrap(probe, context), context)
    except WrappedKeyRefused:
        opened = b""
    if not hmac.compare_digest(opened, probe):
        raise KeyUnavailable("bad_answer", "the key-encryption key does not open what it has wrapped")
