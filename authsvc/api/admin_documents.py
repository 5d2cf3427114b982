"""What operators and programs see of rows, as JSON: never a secret."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from mpc.primitives import base64url

from ..errors import Refused
from ..services.recipients import OwnRecipient
from ..store.api_tokens import ApiTokenRow
from ..store.codes import CodeRow
from ..store.credentials import CredentialRow
from ..store.enrolments import EnrolmentRow
from ..store.events import EventRow


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
        "templates": row.templates,
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


def dealt_key_document(row: CredentialRow, now: float) -> dict[str, Any]:
    """What an operator sees of a dealt key. now: Unix seconds."""
    return {
        "key_id": base64url.encode(row.id),
        "rp_id": row.rp_id,
        "enrolment_id": row.enrolment_id.hex(),
        "status": row.status,
        "not_after": row.not_after,
        "expired": row.has_expired(now),
        "ceremony_id": None if row.ceremony_id is None else row.ceremony_id.hex(),
    }


def recipient_document(own: OwnRecipient) -> dict[str, Any]:
    """A recipient of this server; the file for dealers is its `document`."""
    return {
        "fingerprint": own.recipient.fingerprint,
        "name": own.recipient.name,
        "suite": own.recipient.public_key.suite.value,
        "created_at": own.recipient.created_at,
        "retired_at": own.retired_at,
        "document": own.recipient.document.decode("utf-8"),
    }


def code_document(row: CodeRow) -> dict[str, Any]:
    """A one-time code without the code."""
    return {
        "id": row.code_hash.hex(),
        "purpose": row.purpose,
        "label": row.label,
        "enrolment_id": None if row.enrolment_id is None else row.enrolment_id.hex(),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }


def event_document(row: EventRow, *, whose: bool = False) -> dict[str, Any]:
    """An event; whose: with its enrolment, if it has one."""
    document: dict[str, Any] = {"at": row.at, "name": row.name, "detail": json.loads(row.detail)}
    if whose:
        document["enrolment_id"] = None if row.enrolment_id is None else row.enrolment_id.hex()
    return document


def token_document(row: ApiTokenRow, now: float) -> dict[str, Any]:
    """A token of the admin API without its secret. now: Unix seconds."""
    ended = "revoked" if row.revoked_at is not None else "expired" if now >= row.expires_at else "active"
    return {
        "id": row.id.hex(),
        "name": row.name,
        "scopes": row.scopes.split(" "),
        "status": ended,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
    }
