"""What the server refuses, and the one table that gives each refusal its HTTP status and words.

A service raises `Refused(code)`; the HTTP layer turns it into a problem document (RFC 9457). No text here is
built from what a client sent.
"""

from __future__ import annotations

from dataclasses import dataclass

Extension = int | str | None


@dataclass(frozen=True, slots=True)
class Problem:
    """How one refusal looks to a client."""

    status: int
    title: str
    detail: str


PROBLEMS: dict[str, Problem] = {
    "malformed": Problem(
        400, "Malformed request", "A field is missing, of the wrong type or out of range; see `field`."
    ),
    "bad_authenticator_data": Problem(
        400,
        "Authenticator data refused",
        "The authenticator data does not have the flags, counter or contents required here.",
    ),
    "unauthenticated": Problem(
        401,
        "Request not authenticated",
        "The request signature does not verify for this key id, or is missing or stale.",
    ),
    "forbidden": Problem(403, "Not allowed with this token", "The token is good, but none of its scopes allows this."),
    "bad_enrolment_code": Problem(
        403, "Code refused", "The one-time code is unknown, expired, used, or was tried too often. Ask for a new one."
    ),
    "rp_not_allowed": Problem(
        403, "Relying party not allowed", "This server serves no credentials for that relying party."
    ),
    "provisioning_required": Problem(
        403,
        "Provisioned key required",
        "Here this device registers with a key that a security team has provisioned. Import its share first, or ask"
        " for one.",
    ),
    "code_required": Problem(
        403, "Code required", "Here adding a template takes an operator's code as well. Ask for one."
    ),
    # One refusal for quarantined, revoked and disabled: the difference is the operator's business.
    "not_active": Problem(403, "Enrolment not active", "This enrolment cannot be used now. Its operator can say why."),
    "quarantined": Problem(403, "Enrolment not active", "This enrolment cannot be used now. Its operator can say why."),
    "credential_not_usable": Problem(
        403, "Credential not usable", "The credential is unknown here, or may not be used."
    ),
    # One refusal for unknown, revoked, expired, another enrolment's, in use, and a proof that does not fit.
    "provisioned_key_not_usable": Problem(
        404,
        "Provisioned key not usable",
        "No provisioned key with this id is waiting for this enrolment and this half.",
    ),
    "not_found": Problem(404, "Not found", "There is nothing at this address."),
    "method_not_allowed": Problem(405, "Method not allowed", "This address does not answer that HTTP method."),
    "too_slow": Problem(408, "Body too slow", "The body did not arrive in time. Send the request again."),
    "unknown_login": Problem(
        409,
        "Unknown login",
        "No pending login has this token; compare `epoch` with the device's own before dropping anything.",
    ),
    "stale_index": Problem(
        409,
        "Index used",
        "The index was consumed before. Start a new login with an index above `last_index`.",
    ),
    "index_ahead": Problem(409, "Index too far ahead", "The index is too far above the last one this server consumed."),
    "epoch_ahead": Problem(
        409, "Epoch ahead", "The device is at a later epoch than this server. Its database may be restored."
    ),
    "profile_changed": Problem(
        409, "Profile changed", "The enrolment is bound to another profile than the message names."
    ),
    "base_ot_changed": Problem(409, "Base OT changed", "The enrolment now has other base keys than the message names."),
    "credential_conflict": Problem(
        409, "Credential conflict", "A credential with this id exists, or the enrolment is full."
    ),
    "wrong_state": Problem(
        409, "Not possible in this state", "The enrolment or credential is not in a state that allows this."
    ),
    "too_many_templates": Problem(
        409, "Too many templates", "The enrolment has as many templates as its profile allows. Remove one first."
    ),
    "no_such_template": Problem(
        409, "No such template", "There is no template at that position, or it is the only one, which stays."
    ),
    "wrong_confirmation": Problem(
        409,
        "Confirmation does not fit",
        "The confirmation is not the one for what would be done now. Look again first.",
    ),
    "match_impossible": Problem(
        409,
        "No match possible",
        "The device cannot show a match: it has no passkey in use, or the template's attempts are used up. Vouch for"
        " the person with `without_match`, or enrol anew.",
    ),
    "match_missing": Problem(
        409, "No match shown", "The code asks for a confirmed login with the present template, and there was none."
    ),
    "too_large": Problem(413, "Body too large", "The body is larger than any valid message for this address."),
    "unsupported_media_type": Problem(
        415, "Unsupported media type", "The content type is not the one this address takes."
    ),
    "throttled": Problem(
        429,
        "Wait before the next attempt",
        "Too many attempts in a row, or too many requests; wait `retry_after_s` seconds.",
    ),
    "budget_spent": Problem(429, "Attempt budget spent", "This enrolment has used up its attempts for now."),
    "internal": Problem(500, "Internal error", "The server failed. The operator finds the cause under `request_id`."),
    "unavailable": Problem(503, "Temporarily unavailable", "The server cannot answer at the moment. Try again later."),
}


class Refused(Exception):
    """The request was understood and is refused. `code` is stable; clients and tests compare it.

    Extension members go into the problem document as they are: never a secret, never bytes a client chose.
    """

    def __init__(self, code: str, **extension: Extension) -> None:
        if code not in PROBLEMS:
            raise ValueError(f"no problem is defined under the code {code}")
        super().__init__(code)
        self.code = code
        self.extension = extension

    @property
    def status(self) -> int:
        """The HTTP status from the table."""
        return PROBLEMS[self.code].status


def problem_document(code: str, extension: dict[str, Extension] | None = None) -> dict[str, Extension]:
    """The members of the problem document for `code` (RFC 9457, section 3.1)."""
    problem = PROBLEMS[code]
    return {
        "type": f"urn:tandem:problem:{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "code": code,
        **(extension or {}),
    }
