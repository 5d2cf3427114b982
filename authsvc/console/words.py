"""Stored words in those that people read. A word that is not known here is shown as it is stored.

Each has a tone, for the colour, and a sign, so that nothing depends on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Words:
    """tone: good, bad, warn or calm."""

    text: str
    tone: str = "calm"
    sign: str = "•"


_GOOD, _BAD, _WARN, _ENDED = ("good", "✓"), ("bad", "!"), ("warn", "▲"), ("calm", "×")

_STATUS: Final = {
    "enrolling": Words("Enrolling", "calm", "…"),
    "active": Words("Active", *_GOOD),
    "quarantined": Words("Quarantined", *_BAD),
    "recovering": Words("Recovering", *_WARN),
    "revoked": Words("Revoked", *_ENDED),
    "waiting": Words("Waiting", *_WARN),
    "disabled": Words("Locked", *_BAD),
}
_CREDENTIAL: Final = {
    "provisioned": Words("Waiting for device", "calm", "…"),
    "paired": Words("Paired", "calm", "="),
    "provisional": Words("Registering", *_WARN),
    "active": Words("Active", *_GOOD),
    "revoked": Words("Revoked", *_ENDED),
    "expired": Words("Expired", *_ENDED),
}
_REASON: Final = {
    "clone_suspected": "A device used shares that another has left behind: a copy, or a vault from a backup. Find out "
    "who holds the current device; give the recovery code to that person only.",
    "clone_proved": "Two devices opened answers of one epoch. Consider revoking and enrolling anew.",
    "ot_proof_failed": "A device cheated in the oblivious transfer, or is broken. Revoke, unless you can explain it.",
    "share_tag_failed": "A device used a key share that does not fit. Treat it like a copy.",
    "revoked_by_operator": "An operator ended this enrolment for good.",
}
_ATTEMPT: Final = {
    "confirmed": Words("Confirmed", *_GOOD),
    "pending": Words("Answered, open", "calm", "…"),
    "void": Words("Overtaken", *_WARN),
    "failed": Words("Not confirmed", *_BAD),
}
_PURPOSE: Final = {
    "enrol": "Enrol a device",
    "recover": "Recover a device",
    "rotate": "Rotate template",
    "rotate_unmatched": "Rotate template, no match asked",
}
EVENTS: Final[dict[str, Words]] = {
    "attempt_failed": Words("Attempt refused", *_BAD),
    "attestation_authority_created": Words("Attestation authority made", *_WARN),
    "attestation_certificate_issued": Words("Attestation certificate issued"),
    "attestation_sealed": Words("Attestation given with the answer"),
    "ceremony_revoked": Words("Ceremony revoked", *_ENDED),
    "code_issued": Words("Enrolment code issued"),
    "code_withdrawn": Words("Code withdrawn", *_ENDED),
    "console_signed_in": Words("Console: signed in"),
    "console_signed_out": Words("Console: signed out"),
    "credential_activated": Words("Passkey in use", *_GOOD),
    "credential_added": Words("Passkey being registered"),
    "credential_displaced": Words("Passkey displaced by a dealt key", *_WARN),
    "credential_revoked": Words("Passkey revoked", *_ENDED),
    "credential_revoked_by_device": Words("Passkey given up by its device", *_ENDED),
    "data_exported": Words("Data exported"),
    "enrolled": Words("Enrolled", *_GOOD),
    "enrolment_erased": Words("Enrolment erased", *_ENDED),
    "enrolment_revoked": Words("Enrolment revoked", *_ENDED),
    "history_begun": Words("History begun"),
    "kek_rotated": Words("Key-encryption key rotated", *_GOOD),
    "kek_rotation_begun": Words("Rotation of the key-encryption key begun", *_WARN),
    "login_answered": Words("Login answered"),
    "login_confirmed": Words("Login confirmed", *_GOOD),
    "provisioned_key_adopted": Words("Dealt key taken by its device", *_GOOD),
    "provisioned_key_paired": Words("Dealt key paired"),
    "provisioned_key_rebound": Words("Dealt key moved to another enrolment", *_WARN),
    "provisioned_key_revoked": Words("Dealt key revoked", *_ENDED),
    "quarantine_lifted": Words("Lifted, recovery code issued", *_WARN),
    "quarantined": Words("Quarantined", *_BAD),
    "recipient_created": Words("Recipient created"),
    "recipient_key_exported": Words("Recipient key exported", *_WARN),
    "recipient_retired": Words("Recipient retired", *_ENDED),
    "recovered": Words("Device recovered", *_GOOD),
    "relying_party_revoked": Words("Relying party revoked", *_ENDED),
    "rotation_code_issued": Words("Rotation code issued"),
    "shares_imported": Words("Ceremony imported"),
    "template_added": Words("Template added", *_GOOD),
    "template_removed": Words("Template given up", *_ENDED),
    "template_rotated": Words("Template rotated", *_GOOD),
    "template_share_shown": Words("Template share shown", *_WARN),
    "token_issued": Words("API token issued"),
    "token_revoked": Words("API token revoked", *_ENDED),
}


def status_words(
    status: str, failures: int = 0, waiting_at: int | None = None, disabled_at: int | None = None
) -> Words:
    """An enrolment's state; an active one may be waiting or locked after unconfirmed attempts in a row."""
    if status == "active" and disabled_at is not None and failures >= disabled_at:
        return _STATUS["disabled"]
    if status == "active" and waiting_at is not None and failures >= waiting_at:
        return _STATUS["waiting"]
    return _STATUS.get(status, Words(status))


def credential_words(status: str, expired: bool = False) -> Words:
    """A credential's state."""
    return _CREDENTIAL["expired" if expired and status != "revoked" else status]


def reason_words(reason: str | None) -> str | None:
    """Why an enrolment is in its state, and what to do."""
    return None if reason is None else _REASON.get(reason, reason)


def attempt_words(state: str) -> Words:
    """What became of an attempt."""
    return _ATTEMPT.get(state, Words(state))


def purpose_words(purpose: str) -> str:
    """What a code is for."""
    return _PURPOSE.get(purpose, purpose)


def event_words(name: str) -> Words:
    """An event's name."""
    return EVENTS.get(name, Words(name.replace("_", " ").capitalize()))


def detail_words(detail: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An event's details: (name, value), who did it last."""
    shown = [(name.replace("_", " "), _value(value)) for name, value in sorted(detail.items()) if name != "by"]
    return shown + ([("by", str(detail["by"]))] if "by" in detail else [])


def duration(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def _value(value: Any) -> str:
    return (
        {True: "yes", False: "no", None: "none"}[value]
        if value is None or value is True or value is False
        else str(value)
    )
