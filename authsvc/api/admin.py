"""The operator's API: JSON, behind `admin_gate`, with `admin_access` saying who may do what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ..errors import Refused
from ..services import (
    administration,
    bulk_revocation,
    inspection,
    key_revocation,
    personal_data,
    recipients,
    template_rotation,
)
from ..services.api_tokens import Principal
from ..services.context import ServiceContext
from ..services.provisioning_refusals import ProvisioningRefused
from ..store.enrolment_search import EnrolmentFilter
from ..store.enrolments import EnrolmentStatus
from ..store.event_search import EventFilter
from ..store.pages import MAX_PAGE
from .admin_access import PREFIX
from .admin_documents import (
    code_document,
    credential_document,
    dealt_key_document,
    enrolment_document,
    event_document,
    parse_credential_id,
    recipient_document,
)

HEX_ID = "^[0-9a-f]{32}$"
EnrolmentId = Annotated[str, Path(pattern=HEX_ID, description="the 16-byte id in hexadecimal")]
CodeId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="the id from the list of codes")]
RpId = Annotated[str, Path(min_length=1, max_length=253)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=200)]
Time = Annotated[float | None, Query(ge=0, le=1e11, description="Unix seconds")]
MAX_IDS = 300


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CodeRequest(_Body):
    """Whom an enrolment code is for, and how long it holds, in seconds."""

    label: str = Field(max_length=administration.MAX_LABEL_CHARACTERS)
    lifetime_s: int | None = Field(None, ge=administration.MIN_LIFETIME_S, le=administration.MAX_LIFETIME_S)


class LiftRequest(_Body):
    """also_active: take an enrolment that is in service too, for a device that says it was restored."""

    also_active: bool = False


class RotationRequest(_Body):
    """without_match: the operator alone vouches for the person; the device shows no match with the old template."""

    without_match: bool = False


class ConfirmedRequest(_Body):
    """confirm: what must be typed again before something that cannot be undone."""

    confirm: str = Field(max_length=64)


class EnrolmentList(_Body):
    """Enrolments to be revoked, all or none; with ignore_unknown ids that are none here are passed over."""

    enrolment_ids: list[Annotated[str, Field(pattern=HEX_ID)]] = Field(min_length=1, max_length=MAX_IDS)
    ignore_unknown: bool = False


class KeyList(_Body):
    """Dealt keys to be revoked, all or none: by key id, or a whole ceremony."""

    key_ids: list[Annotated[str, Field(max_length=64)]] = Field(default_factory=list, max_length=MAX_IDS)
    ceremony_id: str | None = Field(None, pattern=HEX_ID)
    ignore_unknown: bool = False


def router(ctx: ServiceContext) -> APIRouter:
    """Everything under /v1/admin; `AdminGate` has checked token and scope. The functions are plain ones, so the
    framework runs them in its worker threads.
    """
    admin = APIRouter(prefix=PREFIX, tags=["admin"])
    _add_looking(admin, ctx)
    _add_codes(admin, ctx)
    _add_enrolments(admin, ctx)
    _add_revocation(admin, ctx)
    return admin


def _principal(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal


def _add_looking(admin: APIRouter, ctx: ServiceContext) -> None:
    @admin.get("/token")
    def token(request: Request) -> dict[str, Any]:
        """Whose token this is, and what it may do."""
        who = _principal(request)
        return {"id": who.by, "name": who.name, "scopes": sorted(who.scopes), "expires_at": who.expires_at}

    @admin.get("/enrolments")
    def enrolments(
        label: Annotated[str | None, Query(max_length=administration.MAX_LABEL_CHARACTERS)] = None,
        status: EnrolmentStatus | None = None,
        profile: Annotated[str | None, Query(max_length=40)] = None,
        rp_id: Annotated[str | None, Query(max_length=253)] = None,
        created_from: Time = None,
        created_to: Time = None,
        last_attempt_from: Time = None,
        last_attempt_to: Time = None,
        limit: Limit = inspection.DEFAULT_PAGE,
        cursor: Cursor = None,
    ) -> dict[str, Any]:
        """Enrolments, oldest first, a page at a time: give `next_cursor` as `cursor` for the next one."""
        wanted = EnrolmentFilter(
            _searchable(label),
            status,
            _searchable(profile),
            _searchable(rp_id),
            created_from,
            created_to,
            last_attempt_from,
            last_attempt_to,
        )
        page = inspection.find_enrolments(ctx, wanted, limit=limit, cursor=cursor)
        return {
            "enrolments": [enrolment_document(row) for row in page.rows],
            "next_cursor": None if page.next is None else page.next.cursor(),
        }

    @admin.get("/enrolments/{enrolment_id}")
    def enrolment(enrolment_id: EnrolmentId) -> dict[str, Any]:
        """One enrolment with its credentials and latest events."""
        detail = administration.enrolment_detail(ctx, bytes.fromhex(enrolment_id))
        return {
            **enrolment_document(detail.enrolment),
            "credentials": [credential_document(row) for row in detail.credentials],
            "events": [event_document(row) for row in detail.events],
        }

    @admin.get("/events")
    def events(
        enrolment_id: Annotated[str | None, Query(pattern=HEX_ID)] = None,
        name: Annotated[str | None, Query(pattern="^[a-z_]{1,60}$")] = None,
        since: Time = None,
        until: Time = None,
        limit: Limit = inspection.DEFAULT_PAGE,
        before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    ) -> dict[str, Any]:
        """Events, newest first, a page at a time: give `next_before` as `before` for the next one."""
        of = None if enrolment_id is None else bytes.fromhex(enrolment_id)
        rows, more = inspection.find_events(ctx, EventFilter(of, name, since, until), limit=limit, before=before)
        return {"events": [{"id": row.id, **event_document(row, whose=True)} for row in rows], "next_before": more}

    @admin.get("/provisioned-keys")
    def provisioned_keys(ceremony_id: Annotated[str | None, Query(pattern=HEX_ID)] = None) -> dict[str, Any]:
        """The dealt keys, of one ceremony or of all, and what has become of them."""
        wanted = None if ceremony_id is None else bytes.fromhex(ceremony_id)
        now = ctx.clock()
        return {"provisioned": [dealt_key_document(row, now) for row in key_revocation.inventory(ctx, wanted)]}

    @admin.get("/recipients")
    def server_recipients() -> dict[str, Any]:
        """This server's recipients: to whom dealers seal its halves."""
        return {"recipients": [recipient_document(own) for own in recipients.every(ctx)]}


def _add_codes(admin: APIRouter, ctx: ServiceContext) -> None:
    @admin.post("/enrolment-codes", status_code=201)
    def issue_code(request: Request, body: CodeRequest) -> dict[str, Any]:
        """A one-time code to enrol one device; it is shown only here."""
        by = _principal(request).by
        issued = administration.issue_code(ctx, label=body.label, lifetime_s=body.lifetime_s, by=by)
        return {"code": issued.code, "expires_at": issued.expires_at, "id": issued.id.hex()}

    @admin.get("/codes")
    def open_codes(request: Request, limit: Limit = inspection.DEFAULT_PAGE, cursor: Cursor = None) -> dict[str, Any]:
        """Codes that can still be used, oldest first, by their ids; a provisioner sees enrolment codes only."""
        purposes = inspection.code_purposes(_principal(request).scopes)
        page = inspection.open_codes(ctx, purposes=purposes, limit=limit, cursor=cursor)
        return {
            "codes": [code_document(row) for row in page.rows],
            "next_cursor": None if page.next is None else page.next.cursor(),
        }

    @admin.post("/codes/{code_id}/withdraw")
    def withdraw_code(request: Request, code_id: CodeId) -> dict[str, Any]:
        """Make a code useless that is not used yet."""
        who = _principal(request)
        inspection.withdraw(ctx, bytes.fromhex(code_id), purposes=inspection.code_purposes(who.scopes), by=who.by)
        return {"status": "withdrawn"}


def _add_enrolments(admin: APIRouter, ctx: ServiceContext) -> None:
    @admin.post("/enrolments/{enrolment_id}/lift")
    def lift(request: Request, enrolment_id: EnrolmentId, body: LiftRequest | None = None) -> dict[str, Any]:
        """Lift a quarantine, or unlock after too many failures in a row: gives the device's recovery code."""
        issued = administration.lift(
            ctx,
            bytes.fromhex(enrolment_id),
            also_active=body is not None and body.also_active,
            by=_principal(request).by,
        )
        return {"recovery_code": issued.code, "expires_at": issued.expires_at}

    @admin.post("/enrolments/{enrolment_id}/rotate-template")
    def rotate_template(
        request: Request, enrolment_id: EnrolmentId, body: RotationRequest | None = None
    ) -> dict[str, Any]:
        """A code with which the enrolled device puts a new template in place; the enrolment stays in service."""
        issued = template_rotation.issue_rotation_code(
            ctx,
            bytes.fromhex(enrolment_id),
            without_match=body is not None and body.without_match,
            by=_principal(request).by,
        )
        return {"rotation_code": issued.code, "expires_at": issued.expires_at}

    @admin.post("/enrolments/{enrolment_id}/export")
    def export(request: Request, enrolment_id: EnrolmentId) -> dict[str, Any]:
        """Everything stored about one user, without secrets. Leaves an event."""
        return personal_data.export_user(ctx, bytes.fromhex(enrolment_id), by=_principal(request).by)

    @admin.post("/enrolments/{enrolment_id}/erase")
    def erase(request: Request, enrolment_id: EnrolmentId, body: ConfirmedRequest) -> dict[str, Any]:
        """Remove everything about one user but pseudonymous events, for good. confirm: the enrolment's id again."""
        by = _principal(request).by
        personal_data.erase_user(ctx, bytes.fromhex(enrolment_id), confirmation=body.confirm, by=by)
        return {"status": "erased"}


def _add_revocation(admin: APIRouter, ctx: ServiceContext) -> None:
    @admin.post("/enrolments/revoke")
    def revoke_many(request: Request, body: EnrolmentList) -> dict[str, Any]:
        """End up to 300 enrolments for good, all or none."""
        named = [
            bulk_revocation.named_enrolment(text, f"enrolment_ids.{at}") for at, text in enumerate(body.enrolment_ids)
        ]
        done = bulk_revocation.revoke_enrolments(
            ctx, named, ignore_unknown=body.ignore_unknown, by=_principal(request).by
        )
        return {name: [each.hex() for each in getattr(done, name)] for name in ("revoked", "before", "unknown")}

    @admin.post("/enrolments/{enrolment_id}/revoke")
    def revoke(request: Request, enrolment_id: EnrolmentId) -> dict[str, Any]:
        """End an enrolment and all its credentials for good."""
        administration.revoke_enrolment(ctx, bytes.fromhex(enrolment_id), by=_principal(request).by)
        return {"status": "revoked"}

    @admin.post("/credentials/{credential_id}/revoke")
    def revoke_credential(request: Request, credential_id: str) -> dict[str, Any]:
        """End one credential for good. credential_id: base64url, as relying parties know it."""
        administration.revoke_credential(ctx, parse_credential_id(credential_id), by=_principal(request).by)
        return {"status": "revoked"}

    @admin.get("/relying-parties/{rp_id}")
    def relying_party(rp_id: RpId) -> dict[str, Any]:
        """How many credentials there are for a relying party, and the value that confirms revoking just these."""
        found = bulk_revocation.at_relying_party(ctx, _searchable(rp_id) or "")
        return {
            "credentials": found.credentials,
            "enrolments": found.enrolments,
            "confirmation": found.confirmation,
        }

    @admin.post("/relying-parties/{rp_id}/revoke")
    def revoke_relying_party(request: Request, rp_id: RpId, body: ConfirmedRequest) -> dict[str, Any]:
        """End every credential for a relying party for good. confirm: the value from GET."""
        by = _principal(request).by
        done = bulk_revocation.revoke_at_relying_party(ctx, _searchable(rp_id) or "", confirmation=body.confirm, by=by)
        return {"status": "revoked", "credentials": done.credentials, "enrolments": done.enrolments}

    @admin.post("/provisioned-keys/revoke")
    def revoke_keys(request: Request, body: KeyList) -> dict[str, Any]:
        """End dealt keys for good, all that are named or none: up to 300 key ids, or a ceremony."""
        if (body.ceremony_id is not None) == bool(body.key_ids):
            raise Refused("malformed", field="key_ids")
        by = _principal(request).by
        try:
            if body.ceremony_id is not None:
                done = key_revocation.revoke_ceremony(ctx, bytes.fromhex(body.ceremony_id), by=by)
            else:
                keys = [key_revocation.named_key(text, f"key_ids.{at}") for at, text in enumerate(body.key_ids)]
                done = key_revocation.revoke_keys(ctx, keys, ignore_unknown=body.ignore_unknown, by=by)
        except ProvisioningRefused as refusal:
            unknown = refusal.reason in ("unknown_key", "unknown_ceremony")
            raise Refused("not_found" if unknown else "malformed", field="key_ids") from None
        return {name: len(getattr(done, name)) for name in ("revoked", "before", "unknown")}


def _searchable(text: str | None) -> str | None:
    """Text for a query. Refused("malformed") for characters that the database cannot take."""
    if text is not None and not text.isprintable():
        raise Refused("malformed", field="body")
    return text
