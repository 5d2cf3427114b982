"""What is stored about one user: handing it out (GDPR, article 15), and erasing it (article 17).

Events outlive an erasure, since nothing can be taken out of a chain. They name an enrolment by its random id and hold
neither label nor address. Those of logins hold the passkey's id and the relying party's, so whoever knows the passkey's
id (the relying party does) can still read when it was used: what is left is pseudonymous, not anonymous.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from mpc.primitives import base64url

from ..errors import Refused
from ..store.codes import CodeRow, codes_of, delete_codes_of
from ..store.credentials import CredentialRow, forget_credentials_of, list_credentials
from ..store.data_keys import delete_data_key
from ..store.enrolments import EnrolmentRow, delete_enrolment, empty_enrolment
from ..store.event_search import EventFilter, search_events
from ..store.events import EventRow, append_event
from ..store.logins import LoginRow, delete_logins_of, list_logins
from .administration import existing_enrolment
from .context import COMMAND_LINE, ServiceContext

EXPORT_FORMAT = "tandem-export-1"


def export_user(ctx: ServiceContext, enrolment_id: bytes, *, by: str = COMMAND_LINE) -> dict[str, Any]:
    """Everything about one enrolment as a JSON document, but for shares, keys and hashes of tokens; leaves an event.

    Refused("not_found"); "wrong_state" for one that is still enrolling: its row goes if it is not finished, which the
    chain of an event would not survive.
    """
    with ctx.store.write() as conn:
        if existing_enrolment(conn, enrolment_id).status == "enrolling":
            raise Refused("wrong_state")
        append_event(conn, at=ctx.clock(), enrolment_id=enrolment_id, name="data_exported", detail={"by": by})
    with ctx.store.read() as conn:
        row = existing_enrolment(conn, enrolment_id, lock=False)
        return {
            "format": EXPORT_FORMAT,
            "exported_at": ctx.clock(),
            "server_id": ctx.policy.server_id,
            "enrolment": _enrolment(row),
            "credentials": [_credential(each) for each in list_credentials(conn, enrolment_id)],
            "logins": [_login(each) for each in list_logins(conn, enrolment_id)],
            "codes": [_code(each) for each in codes_of(conn, enrolment_id, row.code_hash)],
            "events": [_event(e) for e in search_events(conn, EventFilter(enrolment_id=enrolment_id), limit=None)],
        }


def erase_user(ctx: ServiceContext, enrolment_id: bytes, *, confirmation: str, by: str = COMMAND_LINE) -> None:
    """Remove an enrolment with its credentials, logins, codes and label, for good. The device is a stranger then.

    confirmation: the enrolment's id in hexadecimal, typed again. Rows of dealt keys stay, revoked and bare, with the
    empty row of their enrolment: a ceremony that is imported again could bring them back otherwise. The events stay;
    "enrolment_erased" is the last one. Refused("not_found"), Refused("wrong_confirmation").
    """
    now = ctx.clock()
    with ctx.store.write() as conn:
        row = existing_enrolment(conn, enrolment_id)
        if not hmac.compare_digest(confirmation.encode("utf-8", "replace"), enrolment_id.hex().encode()):
            raise Refused("wrong_confirmation")
        # While there is a row whose chain it ends.
        append_event(conn, at=now, enrolment_id=enrolment_id, name="enrolment_erased", detail={"by": by})
        delete_logins_of(conn, enrolment_id)
        delete_codes_of(conn, enrolment_id, row.code_hash)
        if forget_credentials_of(conn, enrolment_id):
            empty_enrolment(conn, enrolment_id)
        else:
            delete_enrolment(conn, enrolment_id)
        # With it, what backups hold of the shares can be opened by nobody, once its key-encryption key is replaced.
        delete_data_key(conn, enrolment_id)
    ctx.keyring.forget(enrolment_id)


def _enrolment(row: EnrolmentRow) -> dict[str, Any]:
    state = ("status", "status_reason", "label", "epoch", "last_index", "confirmed_index", "templates")
    counts = ("consecutive_failures", "template_attempts", "last_attempt_at", "created_at", "updated_at")
    return {
        "id": row.id.hex(),
        "profile": row.profile_name,
        "request_public_key": base64url.encode(row.signing_key),
        **{name: getattr(row, name) for name in (*state, *counts)},
    }


def _credential(row: CredentialRow) -> dict[str, Any]:
    names = ("rp_id", "algorithm", "exponent", "status", "sign_count", "created_at", "not_after")
    return {
        "id": base64url.encode(row.id),
        "modulus": base64url.encode(row.modulus),
        "ceremony_id": None if row.ceremony_id is None else row.ceremony_id.hex(),
        **{name: getattr(row, name) for name in names},
    }


def _login(row: LoginRow) -> dict[str, Any]:
    return {
        "credential_id": base64url.encode(row.credential_id),
        "request_sha256": row.request_hash.hex(),
        **{name: getattr(row, name) for name in ("ot_index", "at", "cost", "state", "kind", "confirmed_at")},
    }


def _code(row: CodeRow) -> dict[str, Any]:
    names = ("purpose", "label", "created_at", "expires_at", "used_at")
    return {"id": row.code_hash.hex(), **{name: getattr(row, name) for name in names}}


def _event(row: EventRow) -> dict[str, Any]:
    return {"at": row.at, "name": row.name, "detail": json.loads(row.detail)}
