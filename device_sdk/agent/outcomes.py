"""How a ceremony ends: for the page a response or a DOMException, for the person a sentence.

The page learns no more than WebAuthn lets it (Level 3, section 14.5): one text for everything that is "not allowed", be
it a refusal, a missing passkey, no match or a lock. The person is told which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from device_sdk.errors import (
    Advice,
    BudgetSpent,
    EncodingError,
    InvalidOptions,
    InvalidState,
    LockedOut,
    NoMatch,
    NotAllowed,
    NotSupported,
    Security,
    ServerUnavailable,
    ShareExpired,
    TandemError,
    TransportError,
)

_NOT_ALLOWED_TEXT = "The operation either timed out or was not allowed."
_UNKNOWN_TEXT = "The authenticator could not complete the request."


@dataclass(frozen=True, slots=True)
class DomError:
    """What a page's promise is rejected with."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`response` for the page, or `error`. `told`: what the person reads."""

    told: str
    response: dict[str, Any] | None = field(default=None, repr=False)
    error: DomError | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None


def not_allowed(told: str) -> Outcome:
    """Refused, cancelled, timed out, nothing fits: to the page these are one."""
    return Outcome(told, error=DomError("NotAllowedError", _NOT_ALLOWED_TEXT))


def failed(fault: TandemError) -> Outcome:
    """The end that `fault` brings about. The texts of page faults are fixed and name no value."""
    match fault:
        case NoMatch():
            return not_allowed(f"{_for_a_person(fault)} Start again at the site.")
        case NotAllowed() | LockedOut() | BudgetSpent() | ShareExpired():
            return not_allowed(_for_a_person(fault))
        case InvalidState() | NotSupported() | Security():
            return Outcome(_for_a_person(fault), error=DomError(fault.dom_name, str(fault)))
        case InvalidOptions():
            # To the page a TypeError would be one of its own call, which the browser has already accepted.
            return Outcome(_for_a_person(fault), error=DomError("UnknownError", str(fault)))
        case _:
            return Outcome(_for_a_person(fault), error=DomError("UnknownError", _UNKNOWN_TEXT))


def can_be_tried_again(fault: TandemError) -> bool:
    """Whether the same person may try once more within the same request."""
    match fault:
        case NoMatch() | TransportError() | ServerUnavailable():
            return True
        case EncodingError():
            return fault.advice is Advice.ASK_USER
        case _:
            return False


def costs_a_try(fault: TandemError) -> bool:
    """A capture that could not be used never left this machine; as many as it takes."""
    return not isinstance(fault, EncodingError)


def _for_a_person(fault: TandemError) -> str:
    match fault:
        case NoMatch():
            return "This did not match the enrolled person."
        case LockedOut():
            return f"Too many failures in a row. Wait {fault.retry_after_s:.0f} seconds, then start again at the site."
        case BudgetSpent():
            return "The attempts allowed for this enrolment are used up. Ask whoever runs your authentication server."
        case InvalidState():
            return "This device already has a passkey for this account. Sign in with it instead."
        case NotSupported():
            return "This site accepts no kind of passkey that Tandem can make (RS256 or PS256)."
        case Security():
            return "This address may not use passkeys of the site that it names."
        case TransportError() | ServerUnavailable():
            return "The authentication server could not be reached. Check the network."
        case _:
            text = str(fault)
            return f"{text[:1].upper()}{text[1:]}."


def told_to_try_again(fault: TandemError, tries_left: int) -> str:
    """What the person reads before another try."""
    if not costs_a_try(fault):
        return f"{_for_a_person(fault)} Nothing was sent."
    left = "one try is" if tries_left == 1 else f"{tries_left} tries are"
    return f"{_for_a_person(fault)} For this request {left} left."
