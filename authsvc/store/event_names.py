"""The names of all events. They are stable: whoever watches the audit log may rely on them.

No event holds a secret, a score, a label of a person, or a text that a client chose; ids and hashes may stand in one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

EventName = Literal[
    "attempt_failed",
    "ceremony_revoked",
    "code_issued",
    "credential_activated",
    "credential_added",
    "credential_displaced",
    "credential_revoked",
    "credential_revoked_by_device",
    "enrolled",
    "enrolment_erased",
    "enrolment_revoked",
    "history_begun",
    "login_answered",
    "login_confirmed",
    "provisioned_key_adopted",
    "provisioned_key_paired",
    "provisioned_key_rebound",
    "provisioned_key_revoked",
    "quarantine_lifted",
    "quarantined",
    "recipient_created",
    "recipient_key_exported",
    "recipient_retired",
    "recovered",
    "shares_imported",
    "template_share_shown",
]

EVENTS: Mapping[EventName, str] = {
    "attempt_failed": "A counted attempt was refused; `reason` tells the check. No answer went out.",
    "ceremony_revoked": "All keys of a ceremony were revoked, and it is closed to later revisions.",
    "code_issued": "An enrolment code was issued; `code` is the beginning of its stored hash.",
    "credential_activated": "A passkey's first signature was confirmed.",
    "credential_added": "A device began to register a passkey of its own.",
    "credential_displaced": "A credential gave way to a dealt key of the same id.",
    "credential_revoked": "An operator ended a passkey.",
    "credential_revoked_by_device": "The device gave up a passkey.",
    "enrolled": "The enrolment was completed.",
    "enrolment_erased": "The user's data were erased; the last event of its chain.",
    "enrolment_revoked": "An operator ended the enrolment and its passkeys.",
    "history_begun": "From this event on every login is in the chain; `epoch` is the one current then.",
    "login_answered": "A login was answered: a device with a matching capture can complete its signature.",
    "login_confirmed": "The device proved that it opened the answer: the capture matched, the signature exists.",
    "provisioned_key_adopted": "A device registers with a dealt key.",
    "provisioned_key_paired": "A device showed that its half of a dealt key fits.",
    "provisioned_key_rebound": "A waiting key went to another device.",
    "provisioned_key_revoked": "A dealt key was revoked as such.",
    "quarantine_lifted": "An operator sent the enrolment into recovery.",
    "quarantined": "The enrolment was taken out of service; `reason` tells why.",
    "recipient_created": "A recipient of this server's was made.",
    "recipient_key_exported": "A recipient's private key was exported under a passphrase.",
    "recipient_retired": "A recipient's private key was erased.",
    "recovered": "The device brought a new request key and new base keys.",
    "shares_imported": "The server's halves of a ceremony were imported.",
    "template_share_shown": "The server's half of the template was printed on its machine.",
}
