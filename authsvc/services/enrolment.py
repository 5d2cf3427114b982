"""Enrolment: a one-time code, the base OT in two requests, and the server's share of the template."""

from __future__ import annotations

import hashlib

from mpc.errors import DecodeError
from mpc.login.enrolment_messages import Accepted, BaseOtOffer, EnrolmentFinish, EnrolmentStart
from mpc.login.messages import ID_BYTES
from mpc.ot.base_ot import BaseOtContext, receiver_round_1, receiver_round_2

from ..codes import code_hash
from ..errors import Refused
from ..store.codes import take_code
from ..store.data_keys import delete_data_key
from ..store.enrolments import (
    EnrolmentRow,
    delete_unfinished_enrolments,
    insert_enrolment,
    load_enrolment,
    update_enrolment,
)
from ..store.events import append_event
from .context import ServiceContext, SignedRequest
from .frame import authenticated_enrolment, key_id_of, require_same_enrolment, verify
from .one_time_codes import try_code
from .request_authentication import is_signing_key
from .secrets_at_rest import open_receiver_state, seal_base_keys, seal_receiver_state, seal_template

_KEY_ID_CHARACTERS = 22


def start(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """First request: counts a try of the code without using it up, makes the server's half of the base OT.

    Signed with the key in the body, whose holder is thereby proved. Raises Refused: "unauthenticated",
    "profile_changed", "bad_enrolment_code", "throttled"; DecodeError.
    """
    message = EnrolmentStart.decode(request.body)
    if not is_signing_key(message.signing_key):
        raise DecodeError("enrolment_start.signing_key", "must be an uncompressed point on P-256")
    key_id = key_id_of(hashlib.sha256(message.signing_key).digest())[:_KEY_ID_CHARACTERS]
    verify(ctx, request, lambda received: message.signing_key if received == key_id else None)
    profile = ctx.policy.profiles.get(message.profile_name)
    if profile is None or profile.digest != message.profile_digest:
        raise Refused("profile_changed")
    with ctx.store.read() as conn:
        kek_id = ctx.keyring.current(conn)  # before the code: what this server cannot do should cost no try of it
    code = try_code(ctx, request, message.code, "enrol")
    now = ctx.clock()
    enrolment_id, base_ot_id = ctx.rng.bytes(ID_BYTES), ctx.rng.bytes(ID_BYTES)
    state = receiver_round_1(ctx.rng, BaseOtContext(enrolment_id, base_ot_id))
    new = ctx.keyring.new_key(ctx.rng, enrolment_id, kek_id)
    with ctx.store.write() as conn:
        for unfinished in delete_unfinished_enrolments(
            conn, code.hash, now - ctx.policy.limits.enrolment_code_lifetime_s
        ):
            delete_data_key(conn, unfinished)
        ctx.keyring.insert(conn, new)
        insert_enrolment(
            conn,
            EnrolmentRow(
                id=enrolment_id,
                status="enrolling",
                status_reason=None,
                label=code.label,
                profile_name=profile.name,
                code_hash=code.hash,
                signing_key=message.signing_key,
                next_signing_key=None,
                epoch=0,
                base_ot_id=None,
                sealed_base_ot=None,
                sealed_pending_base_ot=seal_receiver_state(new.key, base_ot_id, state),
                pending_base_ot_id=base_ot_id,
                sealed_template=None,
                last_index=0,
                confirmed_index=None,
                confirmed_token_hash=None,
                consecutive_failures=0,
                last_attempt_at=None,
                template_attempts=0,
                created_at=now,
                updated_at=now,
                templates=profile.templates,
            ),
        )
    return BaseOtOffer(enrolment_id, base_ot_id, ctx.policy.server_id, state.message).encode()


def finish(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Second request: uses the code up, stores base keys and template share, makes the enrolment active.

    Repeating it after a lost answer changes nothing and is answered alike. Raises Refused: "unauthenticated",
    "wrong_state", "bad_enrolment_code"; DecodeError; ProtocolAbort("invalid_point", device).
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = EnrolmentFinish.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    if _is_done(enrolment, message):
        return Accepted(enrolment.epoch, enrolment.last_index).encode()
    _require_begun(enrolment, message)
    profile = ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)
    if profile is None:
        raise Refused("profile_changed")
    message.share.check_fits(profile, "enrolment_finish")
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
            return Accepted(current.epoch, current.last_index).encode()
        _require_begun(current, message)
        if hashed != current.code_hash or take_code(conn, hashed, "enrol", now) is None:
            raise Refused("bad_enrolment_code")
        update_enrolment(
            conn,
            enrolment.id,
            status="active",
            base_ot_id=message.base_ot_id,
            sealed_base_ot=seal_base_keys(key, message.base_ot_id, keys),
            sealed_pending_base_ot=None,
            pending_base_ot_id=None,
            sealed_template=seal_template(key, 0, message.share),
            updated_at=now,
        )
        detail = {"code_id": current.code_hash.hex()}
        append_event(conn, at=now, name="enrolled", enrolment_id=enrolment.id, detail=detail)
    return Accepted(epoch=0, last_index=0).encode()


def _is_done(enrolment: EnrolmentRow, message: EnrolmentFinish) -> bool:
    return enrolment.status == "active" and enrolment.base_ot_id == message.base_ot_id


def _require_begun(enrolment: EnrolmentRow, message: EnrolmentFinish) -> None:
    if enrolment.status != "enrolling" or enrolment.pending_base_ot_id != message.base_ot_id:
        raise Refused("wrong_state")
