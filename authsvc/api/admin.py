"""The operator's API: JSON, behind `admin_gate`."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from mpc.primitives import base64url

from ..errors import Refused
from ..services import administration
from ..services.context import ServiceContext
from ..store.credentials import CredentialRow
from ..store.enrolments import EnrolmentRow
from .admin_gate import PREFIX

EnrolmentId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the 16-byte id in hexadecimal")]


class CodeRequest(BaseModel):
    """Whom an enrolment code is for, and how long it holds, in seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: str = Field(max_length=administration.MAX_LABEL_CHARACTERS)
    lifetime_s: int | None = Field(None, ge=administration.MIN_LIFETIME_S, le=administration.MAX_LIFETIME_S)


class LiftRequest(BaseModel):
    """also_active: take an enrolment that is in service too, for a device that says it was restored."""

    model_config = ConfigDict(extra="forbid", strict=True)

    also_active: bool = False


def router(ctx: ServiceContext) -> APIRouter:
    """Everything under /v1/admin; `AdminGate` has checked the token. The functions are plain ones, so the
    framework runs them in its worker threads.
    """
    admin = APIRouter(prefix=PREFIX, tags=["admin"])

    @admin.post("/enrolment-codes", status_code=201)
    def issue_code(request: CodeRequest) -> dict[str, Any]:
        """A one-time code to enrol one device; it is shown only here."""
        issued = administration.issue_code(ctx, label=request.label, lifetime_s=request.lifetime_s)
        return {"code": issued.code, "expires_at": issued.expires_at}

    @admin.get("/enrolments")
    def enrolments() -> dict[str, Any]:
        """All enrolments, oldest first."""
        return {"enrolments": [enrolment_document(row) for row in administration.all_enrolments(ctx)]}

    @admin.get("/enrolments/{enrolment_id}")
    def enrolment(enrolment_id: EnrolmentId) -> dict[str, Any]:
        """One enrolment with its credentials and latest events."""
        detail = administration.enrolment_detail(ctx, bytes.fromhex(enrolment_id))
        return {
            **enrolment_document(detail.enrolment),
            "credentials": [credential_document(row) for row in detail.credentials],
            "events": [{"at": row.at, "name": row.name, "detail": json.loads(row.detail)} for row in detail.events],
        }

    @admin.post("/enrolments/{enrolment_id}/lift")
    def lift(enrolment_id: EnrolmentId, request: LiftRequest | None = None) -> dict[str, Any]:
        """Lift a quarantine, or unlock after too many failures in a row: gives the device's recovery code."""
        also_active = request is not None and request.also_active
        issued = administration.lift(ctx, bytes.fromhex(enrolment_id), also_active=also_active)
        return {"recovery_code": issued.code, "expires_at": issued.expires_at}

    @admin.post("/enrolments/{enrolment_id}/revoke")
    def revoke(enrolment_id: EnrolmentId) -> dict[str, Any]:
        """End an enrolment and all its credentials for good."""
        administration.revoke_enrolment(ctx, bytes.fromhex(enrolment_id))
        return {"status": "revoked"}

    @admin.post("/credentials/{credential_id}/revoke")
    def revoke_credential(credential_id: str) -> dict[str, Any]:
        """End one credential for good. credential_id: base64url, as relying parties know it."""
        administration.revoke_credential(ctx, parse_credential_id(credential_id))
        return {"status": "revoked"}

    return admin


def parse_credential_id(text: str) -> bytes:
    """The bytes of a credential id in base64url, with or without padding. Refused("malformed")."""
    try:
        if not 0 < len(text) <= 100 or not text.isascii() or set(text) & set("+/"):
            raise ValueError
        unpadded = text.rstrip("=")
        value = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise Refused("malformed", field="credential_id") from None
    return value


def enrolment_document(row: EnrolmentRow) -> dict[str, Any]:
    """What an operator sees of an enrolment."""
    return {
        "id": row.id.hex(),
        "label": row.label,
        "status": row.status,
        "status_reason": row.status_reason,
        "profile": row.profile_name,
        "epoch": row.epoch,
        "last_index": row.last_index,
        "consecutive_failures": row.consecutive_failures,
        "template_attempts": row.template_attempts,
        "last_attempt_at": row.last_attempt_at,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def credential_document(row: CredentialRow) -> dict[str, Any]:
    """What an operator sees of a credential."""
    return {
        "id": base64url.encode(row.id),
        "rp_id": row.rp_id,
        "algorithm": row.algorithm,
        "modulus_bits": 8 * len(row.modulus),
        "status": row.status,
        "sign_count": row.sign_count,
        "created_at": row.created_at,
        "ceremony_id": None if row.ceremony_id is None else row.ceremony_id.hex(),
        "not_after": row.not_after,
    }
