"""Recovery after a quarantine: with the operator's code, a new request key and new base OTs.

The first request is signed with the old key and the second with the new one, and both carry the code: neither a
copied device nor a stolen code alone is enough, and from then on the copy cannot even sign a request.
"""

from __future__ import annotations

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.login.enrolment_messages import Accepted, BaseOtOffer, RecoveryFinish, RecoveryStart
from mpc.login.messages import ID_BYTES
from mpc.ot.base_ot import BaseOtContext, receiver_round_1, receiver_round_2

from ..codes import code_hash
from ..errors import Refused
from ..store.codes import take_code
from ..store.credentials import list_credentials
from ..store.enrolments import EnrolmentRow, load_enrolment, update_enrolment
from ..store.events import append_event
from .confirmation import apply_confirmation
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment
from .one_time_codes import try_code
from .request_authentication import is_signing_key
from .secrets_at_rest import open_receiver_state, seal_base_keys, seal_receiver_state


def start(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """First request: settles an outstanding confirmation, stores the new key as pending, makes the base-OT offer.

    The answer tells the epoch that is current: a device whose own is older has been overtaken by a copy and stops.
    Raises Refused: "unauthenticated", "not_active", "bad_enrolment_code", "throttled", "unknown_login"; DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
        message = RecoveryStart.decode(request.body)
        require_same_enrolment(enrolment, message.enrolment_id)
        if not is_signing_key(message.signing_key):
            raise DecodeError("recovery_start.signing_key", "must be an uncompressed point on P-256")
        if enrolment.status != "recovering":
            raise Refused("not_active")
    try_code(ctx, request, message.code, "recover", enrolment_id=enrolment.id)
    key = ctx.data_key(enrolment.id)
    if message.confirmation is not None:
        apply_confirmation(ctx, enrolment.id, message.confirmation, status="recovering")

    base_ot_id = ctx.rng.bytes(ID_BYTES)
    state = receiver_round_1(ctx.rng, BaseOtContext(enrolment.id, base_ot_id))
    with ctx.store.write() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        if current is None or current.status != "recovering":
            raise Refused("not_active")
        update_enrolment(
            conn,
            enrolment.id,
            next_signing_key=message.signing_key,
            sealed_pending_base_ot=seal_receiver_state(key, base_ot_id, state),
            pending_base_ot_id=base_ot_id,
            updated_at=ctx.clock(),
        )
    return BaseOtOffer(enrolment.id, base_ot_id, ctx.policy.server_id, state.message, current.epoch).encode()


def finish(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Second request: uses the code up, replaces key and base OTs, and the enrolment is active again.

    Repeating it after a lost answer changes nothing and is answered alike. Raises Refused: "unauthenticated",
    "wrong_state", "bad_enrolment_code"; DecodeError; ProtocolAbort("invalid_point", device).
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request, key_of=_new_key)
    message = RecoveryFinish.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    if _is_done(enrolment, message):
        with ctx.store.read() as conn:
            return _accepted(conn, enrolment)
    _require_begun(enrolment, message)
    key = ctx.data_key(enrolment.id)
    state = open_receiver_state(key, enrolment)
    keys = receiver_round_2(BaseOtContext(enrolment.id, message.base_ot_id), state, message.sender_message)
    now = ctx.clock()
    hashed = code_hash(message.code)
    with ctx.store.write() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        if current is None:
            raise Refused("wrong_state")
        if _is_done(current, message):
            return _accepted(conn, current)
        _require_begun(current, message)
        # The signature was checked with the key that was pending then; it must still be that one.
        if current.next_signing_key is None or current.next_signing_key != enrolment.next_signing_key:
            raise Refused("wrong_state")
        taken = take_code(conn, hashed, "recover", now) if hashed is not None else None
        if taken is None or taken.enrolment_id != enrolment.id:
            raise Refused("bad_enrolment_code")
        update_enrolment(
            conn,
            enrolment.id,
            status="active",
            status_reason=None,
            signing_key=current.next_signing_key,
            next_signing_key=None,
            base_ot_id=message.base_ot_id,
            sealed_base_ot=seal_base_keys(key, message.base_ot_id, keys),
            sealed_pending_base_ot=None,
            pending_base_ot_id=None,
            consecutive_failures=0,
            updated_at=now,
        )
        append_event(conn, at=now, name="recovered", enrolment_id=enrolment.id)
        return _accepted(conn, current)


def _accepted(conn: Connection, enrolment: EnrolmentRow) -> bytes:
    """Index and counters go along: a copy may have moved them beyond what the device has stored.

    A key that waits has signed nothing. There may also be more of those than an answer holds.
    """
    usable = [row for row in list_credentials(conn, enrolment.id) if row.status in ("provisional", "active")]
    counts = tuple((row.id, row.sign_count) for row in usable)
    return Accepted(enrolment.epoch, enrolment.last_index, counts).encode()


def _new_key(row: EnrolmentRow) -> bytes:
    return row.next_signing_key or row.signing_key


def _is_done(enrolment: EnrolmentRow, message: RecoveryFinish) -> bool:
    return enrolment.status == "active" and enrolment.base_ot_id == message.base_ot_id


def _require_begun(enrolment: EnrolmentRow, message: RecoveryFinish) -> None:
    if enrolment.status != "recovering" or enrolment.pending_base_ot_id != message.base_ot_id:
        raise Refused("wrong_state")
