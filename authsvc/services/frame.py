"""The first step of every request: how long it may be, and who signed it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from sqlalchemy import Connection

from mpc.primitives import base64url

from ..errors import Refused
from ..observation import step_ended
from ..policy import Limits
from ..store.enrolments import EnrolmentRow, load_enrolment
from .context import ServiceContext, SignedRequest
from .rate_limits import Rate, by_enrolment, spend
from .request_authentication import authenticate


def authenticated_enrolment(
    ctx: ServiceContext,
    conn: Connection,
    request: SignedRequest,
    *,
    key_of: Callable[[EnrolmentRow], bytes] = lambda row: row.signing_key,
    rate_of: Callable[[Limits], Rate | None] = by_enrolment,
) -> EnrolmentRow:
    """The enrolment whose key signed the request, as stored now.

    Raises Refused: "unauthenticated"; "throttled" if it sends too many requests, which is looked at once the signature
    holds, so that nobody else can use an enrolment's rate up. rate_of: which of the policy's limits it counts against.

    An unknown id, and that of an erased enrolment, is verified against a key that nobody owns, so that it looks like a
    wrong signature.
    """
    found: list[EnrolmentRow] = []

    def resolve(key_id: str) -> bytes | None:
        enrolment_id = _enrolment_id(key_id)
        row = load_enrolment(conn, enrolment_id) if enrolment_id is not None else None
        if row is None or row.status == "erased":
            return None
        found.append(row)
        return key_of(row)

    verify(ctx, request, resolve)
    spend(ctx, rate_of(ctx.policy.limits), found[0].id)
    return found[0]


def verify(ctx: ServiceContext, request: SignedRequest, resolve: Callable[[str], bytes | None]) -> str:
    """The verified key id. Raises Refused("unauthenticated")."""
    key_id = authenticate(
        method=request.method,
        authority=request.authority,
        path=request.path,
        headers=request.headers,
        body=request.body,
        resolve_key=resolve,
        now=ctx.clock(),
        freshness_s=ctx.policy.limits.freshness_s,
    )
    step_ended("authenticate")
    return key_id


def require_same_enrolment(enrolment: EnrolmentRow, named: bytes) -> None:
    """The body must name the enrolment that signed it."""
    if enrolment.id != named:
        raise Refused("malformed", field="enrolment_id")


def key_id_of(raw: bytes) -> str:
    """How an id stands in a signature's keyid: base64url without padding."""
    return base64url.encode(raw)


def _enrolment_id(key_id: str) -> bytes | None:
    if len(key_id) != 22:
        return None
    try:
        raw = base64.b64decode(key_id + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if key_id_of(raw) == key_id else None
