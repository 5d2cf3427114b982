"""What lives longer than one command: token, key agreement, verification, and the enumeration that may go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from device_sdk.ctap.pin_protocol import KeyAgreement
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.tokens import Tokens
from device_sdk.ctap.under_way import UnderWay
from device_sdk.ctap.user import User
from device_sdk.ctap.verification import BuiltInVerification
from device_sdk.joint_authenticator import JointAuthenticator
from device_sdk.vault.state import Credential
from mpc.login.extension_outputs import CredProtect

ENUMERATION_LIFETIME_S = 30.0
"""How soon the next command of a sequence must come (CTAP 2.1, section 6, stateful commands)."""

Answer = dict[int, object]


@dataclass(frozen=True, slots=True)
class Enumeration:
    """What is left of a sequence of answers. Each kind of sequence has a subclass."""

    at: float


_Kind = TypeVar("_Kind", bound=Enumeration)


class Session:
    """One opened authenticator. Its commands come one at a time."""

    def __init__(
        self,
        authenticator: JointAuthenticator,
        user: User,
        *,
        modulus_bits: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """modulus_bits: of new keys. clock: seconds of any origin."""
        self.authenticator = authenticator
        self.user = user
        self.modulus_bits = modulus_bits
        self.clock = clock
        self.verification = BuiltInVerification(authenticator, user, clock)
        self.tokens = Tokens(authenticator.rng, clock)
        self.key_agreement = KeyAgreement()
        self._enumeration: Enumeration | None = None
        self._continued: Enumeration | None = None

    def __repr__(self) -> str:
        return "Session()"

    def begin_command(self) -> None:
        """Any command ends the sequence that was going on, unless it asks for the next of it."""
        self._continued, self._enumeration = self._enumeration, None

    def going_on(self, kind: type[_Kind]) -> _Kind:
        """The sequence that this command continues. Raises CommandRefused(NOT_ALLOWED) if none of that kind is."""
        continued = self._continued
        if not isinstance(continued, kind) or self.clock() >= continued.at + ENUMERATION_LIFETIME_S:
            raise CommandRefused(Status.CTAP2_ERR_NOT_ALLOWED)
        return continued

    def go_on_with(self, rest: Enumeration) -> None:
        """The next command may ask for the next of `rest`."""
        self._enumeration = rest

    def forget(self) -> None:
        """Tokens, key agreement and sequences, as at power-up."""
        self.tokens.void()
        self.key_agreement = KeyAgreement()
        self._enumeration = self._continued = None

    def is_guarded(self) -> bool:
        """Whether a passkey here may not be told of before the user is verified (credProtect 2 or 3)."""
        return any(c.cred_protect is not CredProtect.UV_OPTIONAL for c in self.authenticator.credentials())


class Request:
    """A command in its session: what every command is called with."""

    def __init__(self, session: Session, under_way: UnderWay) -> None:
        self.session = session
        self.under_way = under_way


def is_visible(credential: Credential, *, verified: bool, listed: bool) -> bool:
    """Whether a request may find it. listed: the request names its id."""
    match credential.cred_protect:
        case CredProtect.UV_OPTIONAL:
            return True
        case CredProtect.UV_OPTIONAL_WITH_ID_LIST:
            return verified or listed
        case _:
            return verified
