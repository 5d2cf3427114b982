"""What an operator does to one enrolment. Each action has a page that says what it means, and one button."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import RedirectResponse, Response

from ..errors import PROBLEMS, Refused
from ..services import administration, personal_data, template_rotation
from ..services.administration import EnrolmentDetail, IssuedCode
from ..store.credentials import CredentialRow
from .rendering import page
from .visits import Visit, address


def ask_lift(visit: Visit) -> Response:
    """Lift, or send an enrolment in service into recovery."""
    detail = _detail(visit)
    row = detail.enrolment
    disabled = row.consecutive_failures >= visit.ctx.policy.limits.consecutive_before_disabled
    if row.status not in ("active", "quarantined", "recovering"):
        raise Refused("wrong_state")
    return _ask(visit, "action_lift.html", detail, in_service=row.status == "active" and not disabled)


def lift(visit: Visit) -> Response:
    """Shows the recovery code, this once."""
    detail = _detail(visit)
    issued = administration.lift(
        visit.ctx, detail.enrolment.id, also_active=visit.form.get("also_active") == "yes", by=visit.by
    )
    return _code(visit, detail, issued, "Recovery code", "The device recovers with this code and its own request key.")


def ask_rotate(visit: Visit) -> Response:
    """Issue a code for a new template."""
    return _ask(visit, "action_rotate.html", _detail(visit))


def rotate(visit: Visit) -> Response:
    """Shows the rotation code, this once."""
    detail = _detail(visit)
    without_match = visit.form.get("without_match") == "yes"
    try:
        issued = template_rotation.issue_rotation_code(
            visit.ctx, detail.enrolment.id, without_match=without_match, by=visit.by
        )
    except Refused as refusal:
        if refusal.code != "match_impossible":
            raise
        return _ask(visit, "action_rotate.html", detail, refusal)
    advice = "The enrolled device puts the new template in place with this code."
    return _code(visit, detail, issued, "Rotation code", advice)


def ask_revoke(visit: Visit) -> Response:
    """End an enrolment."""
    return _ask(visit, "action_revoke.html", _detail(visit))


def revoke(visit: Visit) -> Response:
    """Back to the enrolment's page afterwards."""
    detail = _detail(visit)
    administration.revoke_enrolment(visit.ctx, detail.enrolment.id, by=visit.by)
    return _back(detail, "unchanged" if detail.enrolment.status == "revoked" else "revoked")


def ask_revoke_credential(visit: Visit) -> Response:
    """End one passkey."""
    detail = _detail(visit)
    return _ask(visit, "action_revoke_credential.html", detail, credential=_credential(visit, detail))


def revoke_credential(visit: Visit) -> Response:
    """Only one of the enrolment whose page it was."""
    detail = _detail(visit)
    credential = _credential(visit, detail)
    administration.revoke_credential(visit.ctx, credential.id, by=visit.by)
    return _back(detail, "unchanged" if credential.status == "revoked" else "credential-revoked")


def ask_export(visit: Visit) -> Response:
    """Hand out what is stored."""
    return _ask(visit, "action_export.html", _detail(visit))


def export(visit: Visit) -> Response:
    """The document as a download."""
    enrolment_id = visit.id_param("enrolment_id")
    document = personal_data.export_user(visit.ctx, enrolment_id, by=visit.by)
    name = f"tandem-export-{enrolment_id.hex()}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(json.dumps(document, indent=2), 200, headers, "application/json")


def ask_erase(visit: Visit) -> Response:
    """Remove a person's data. The id has to be typed."""
    return _ask(visit, "action_erase.html", _detail(visit))


def erase(visit: Visit) -> Response:
    """There is no enrolment to go back to afterwards."""
    detail = _detail(visit)
    typed = visit.form.get("confirm", "").lower()
    try:
        personal_data.erase_user(visit.ctx, detail.enrolment.id, confirmation=typed, by=visit.by)
    except Refused as refusal:
        if refusal.code != "wrong_confirmation":
            raise
        return _ask(visit, "action_erase.html", detail, refusal)
    return page(visit, "erased.html", enrolment_id=detail.enrolment.id.hex())


def _detail(visit: Visit) -> EnrolmentDetail:
    return administration.enrolment_detail(visit.ctx, visit.id_param("enrolment_id"))


def _credential(visit: Visit, detail: EnrolmentDetail) -> CredentialRow:
    wanted = visit.credential_param("credential_id")
    for row in detail.credentials:
        if row.id == wanted:
            return row
    raise Refused("not_found")


def _ask(
    visit: Visit, template: str, detail: EnrolmentDetail, refusal: Refused | None = None, **values: Any
) -> Response:
    return page(
        visit,
        template,
        status=200 if refusal is None else refusal.status,
        row=detail.enrolment,
        refused=None if refusal is None else PROBLEMS[refusal.code].detail,
        **values,
    )


def _code(visit: Visit, detail: EnrolmentDetail, issued: IssuedCode, title: str, advice: str) -> Response:
    back = address(f"/enrolments/{detail.enrolment.id.hex()}")
    return page(
        visit,
        "code.html",
        title=title,
        advice=advice,
        label=detail.enrolment.label,
        code=issued.code,
        expires_at=issued.expires_at,
        back=back,
    )


def _back(detail: EnrolmentDetail, done: str) -> Response:
    return RedirectResponse(address(f"/enrolments/{detail.enrolment.id.hex()}", done=done), 303)
