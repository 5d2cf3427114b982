"""The port to the person: what an app must supply so that a CTAP client can be served."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from device_sdk.credential_info import CredentialInfo


class Purpose(StrEnum):
    """What is about to happen, for the app to put in words."""

    REGISTER = "register"
    SIGN_IN = "sign_in"
    MANAGE = "manage"
    """Passkeys are to be listed, renamed or deleted."""
    SELECT = "select"
    """A client with several authenticators asks which one is meant."""
    RESET = "reset"
    """Every passkey of this device is to be given up, for good."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`rp_id`: the relying party, None where it is about none or about all of them. It was claimed by the client.

    `account`: the account's name as far as it is known; it was chosen by the relying party, up to 1,024 bytes of any
    characters. Quote or escape it before it is shown: control characters can rewrite what stands beside it.
    """

    purpose: Purpose
    rp_id: str | None = None
    account: str | None = None


class User(Protocol):
    """The person in front of the device. Called in a thread of its own.

    One question at a time, if each returns soon once `cancelled` is set; what is returned then counts for nothing.
    """

    def capture(self, prompt: Prompt, cancelled: threading.Event) -> Any | None:
        """Say what is about to happen and take a fresh sample for the encoder; None if the person declines.

        Never a sample that was given before: each is used for one login only.
        """
        ...

    def confirm(self, prompt: Prompt, cancelled: threading.Event) -> bool:
        """Say what is about to happen and ask for a yes, such as a click. True if the person agreed."""
        ...


@runtime_checkable
class AccountChooser(Protocol):
    """What a `User` may have besides: a display on which the person picks one of several accounts.

    Without it the client gets an assertion for each account, and each of them takes a capture.
    """

    def choose_account(
        self, prompt: Prompt, accounts: Sequence[CredentialInfo], cancelled: threading.Event
    ) -> bytes | None:
        """The credential id of the account picked, of those given, newest first; None if the person declines."""
        ...
