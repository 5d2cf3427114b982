"""What the audit log is told of a login: ids that were parsed by type and the policy's own names, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from mpc.login.history import LoginDetail
from mpc.login.messages import LoginStatement
from mpc.primitives import base64url

from ..attestation_certificates import AttestationAuthority, fingerprint
from ..store.credentials import CredentialRow
from ..store.enrolments import EnrolmentRow
from ..store.event_names import EventName
from ..store.events import EventDetail
from ..store.logins import LoginKind, LoginRow


@dataclass(frozen=True, slots=True)
class LoginEvent:
    """An event that is still to be appended."""

    name: EventName
    detail: EventDetail


def login_event(
    enrolment: EnrolmentRow,
    credential: CredentialRow | None,
    statement: LoginStatement,
    kind: LoginKind,
    reason: str | None,
) -> LoginEvent:
    """An attempt that is counted: answered if `reason` is None, else refused for that reason."""
    if reason is None and credential is not None:
        told = LoginDetail(statement.ot_index, statement.epoch, kind, statement.credential_id, credential.rp_id)
        return LoginEvent("login_answered", told.as_detail())
    detail: dict[str, str | int | None] = {
        "reason": reason,
        "ot_index": statement.ot_index,
        "epoch": statement.epoch,
        "kind": kind,
    }
    if credential is not None and credential.enrolment_id == enrolment.id:
        # Another enrolment's passkey is not this one's to read about.
        of_passkey = LoginDetail(statement.ot_index, statement.epoch, kind, credential.id, credential.rp_id)
        detail |= of_passkey.as_detail()
    return LoginEvent("attempt_failed", detail)


def attestation_event(statement: LoginStatement, attester: AttestationAuthority) -> LoginEvent:
    """An attestation in the answer to a registration. Whether the device can open it, nobody is told."""
    detail = {
        "credential_id": base64url.encode(statement.credential_id),
        "certificate": fingerprint(attester.certificate),
    }
    return LoginEvent("attestation_sealed", detail)


def confirmed_event(enrolment: EnrolmentRow, credential: CredentialRow | None, row: LoginRow) -> LoginEvent:
    """A pending login of the enrolment's current epoch that its device has confirmed."""
    rp_id = credential.rp_id if credential is not None else None
    told = LoginDetail(row.ot_index, enrolment.epoch, row.kind, row.credential_id, rp_id)
    return LoginEvent("login_confirmed", told.as_detail())
