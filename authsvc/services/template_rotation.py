"""A new template for an enrolment that keeps its credentials: under an operator's code, by the device that is enrolled.

| guard | stops |
|---|---|
| the operator's code, bound to the enrolment | anybody who only holds the device |
| the device's request key, at the current epoch | anybody who only holds the code, and copies that were left behind |
| a confirmed login with the present template, over this rotation's challenge | another person with device and code |

The third is left out only where the operator said so when he issued the code. Falling back by itself when the budgets
are spent would make it worthless: whoever holds the device can spend them.

The enrolment stays in service until the second request commits. From then on the epoch is a new one, so a vault that
was restored to before the rotation is recognised, and tokens of logins with the old template confirm nothing.
"""

from __future__ import annotations

from sqlalchemy import Connection

from mpc.login.enrolment_messages import Accepted
from mpc.login.messages import ID_BYTES, MAX_INDEX
from mpc.login.profile import Profile
from mpc.login.rotation_messages import RotationFinish, RotationOffer, RotationSettle, RotationSettled, RotationStart
from mpc.ot.base_ot import BaseOtContext, receiver_round_1, receiver_round_2

from ..codes import code_hash
from ..errors import Refused
from ..store.codes import UNLIMITED, CodePurpose, find_code, take_code, withdraw_codes
from ..store.credentials import list_credentials
from ..store.enrolments import EnrolmentRow, load_enrolment, update_enrolment
from ..store.events import EventDetail, append_event
from ..store.logins import forget_rotation_logins, load_login, void_pending_logins
from .administration import IssuedCode, existing_enrolment, insert_new_code
from .context import COMMAND_LINE, ServiceContext, SignedRequest
from .frame import authenticated_enrolment, require_same_enrolment
from .limits import MAX_INDEX_JUMP
from .one_time_codes import try_code
from .secrets_at_rest import open_receiver_state, seal_base_keys, seal_receiver_state, seal_template


def issue_rotation_code(
    ctx: ServiceContext, enrolment_id: bytes, *, without_match: bool = False, by: str = COMMAND_LINE
) -> IssuedCode:
    """A code with which the enrolled device may put a new template in place; an earlier one is withdrawn.

    without_match: the operator alone vouches that it is the same person. Refused("not_found"); "wrong_state" unless the
    enrolment is active and not disabled; "match_impossible" if a match is asked for and cannot be had.
    """
    now, limits = ctx.clock(), ctx.policy.limits
    with ctx.store.write() as conn:
        row = existing_enrolment(conn, enrolment_id)
        profile = _profile_in_service(ctx, row)
        if profile is None:
            raise Refused("wrong_state")
        if not without_match and (
            row.template_attempts + profile.templates > limits.attempts_per_template
            or not any(
                each.status == "active" and not each.has_expired(now) for each in list_credentials(conn, enrolment_id)
            )
        ):
            raise Refused("match_impossible")
        withdraw_codes(conn, enrolment_id, now)
        issued = insert_new_code(
            ctx,
            conn,
            "rotate_unmatched" if without_match else "rotate",
            label=row.label,
            enrolment_id=enrolment_id,
            lifetime_s=limits.recovery_code_lifetime_s,
        )
        detail: EventDetail = {"code_id": issued.id.hex(), "match": not without_match, "by": by}
        append_event(conn, at=now, enrolment_id=enrolment_id, name="rotation_code_issued", detail=detail)
    return issued


def start(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """First request: counts a try of the code without using it up, makes the server's half of a fresh base OT.

    The answer tells the current epoch; where the device is at another one it gets no offer that could be finished.
    Raises Refused: "unauthenticated", "not_active", "bad_enrolment_code", "throttled"; DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
        message = RotationStart.decode(request.body)
        require_same_enrolment(enrolment, message.enrolment_id)
        _require_in_service(ctx, enrolment)
    tried = try_code(ctx, request, message.code, "rotate", "rotate_unmatched", enrolment_id=enrolment.id)
    key = ctx.data_key(enrolment.id)
    base_ot_id = ctx.rng.bytes(ID_BYTES)
    state = receiver_round_1(ctx.rng, BaseOtContext(enrolment.id, base_ot_id))
    with ctx.store.write_enrolment() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        _require_in_service(ctx, current)
        assert current is not None
        if current.epoch == message.epoch:
            # A match that was shown for an earlier rotation says nothing about this one.
            forget_rotation_logins(conn, enrolment.id)
            update_enrolment(
                conn,
                enrolment.id,
                sealed_pending_base_ot=seal_receiver_state(key, base_ot_id, state),
                pending_base_ot_id=base_ot_id,
                updated_at=ctx.clock(),
            )
    return RotationOffer(enrolment.id, base_ot_id, state.message, current.epoch, tried.purpose == "rotate").encode()


def finish(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Second request: uses the code up, replaces base OTs and template, begins an epoch and a new template budget.

    Repeating it after a lost answer changes nothing and is answered alike. Other budgets and the failures in a row
    stay. Raises Refused: "unauthenticated", "not_active", "wrong_state" (another offer was made since, or the epoch is
    over), "bad_enrolment_code", "match_missing", "index_ahead"; DecodeError; ProtocolAbort("invalid_point", device).
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = RotationFinish.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    if enrolment.rotated_base_ot_id == message.base_ot_id:
        return _accepted(enrolment, message)
    profile = _require_begun(ctx, enrolment, message)
    message.share.check_fits(profile, "rotation_finish")
    key = ctx.data_key(enrolment.id)
    state = open_receiver_state(key, enrolment)
    keys = receiver_round_2(BaseOtContext(enrolment.id, message.base_ot_id), state, message.sender_message)
    now, epoch = ctx.clock(), message.epoch + 1
    with ctx.store.write() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        if current is not None and current.rotated_base_ot_id == message.base_ot_id:
            return _accepted(current, message)
        _require_begun(ctx, current, message)
        assert current is not None
        purpose = _purpose_of(conn, current.id, message.code, now)
        if purpose == "rotate" and not _match_was_shown(conn, current):
            raise Refused("match_missing")
        hashed = code_hash(message.code)
        if hashed is None or take_code(conn, hashed, purpose, now) is None:
            raise Refused("bad_enrolment_code")
        void_pending_logins(conn, current.id)
        # The indices up to the device's are used up too, and one at least: a login of before, still on its way, would
        # otherwise be of an older epoch under a fresh index, which is how a copy shows (row L4).
        if message.ot_index > current.last_index + MAX_INDEX_JUMP:
            raise Refused("index_ahead", last_index=current.last_index)
        last_index = max(min(current.last_index + 1, MAX_INDEX), message.ot_index)
        update_enrolment(
            conn,
            current.id,
            epoch=epoch,
            last_index=last_index,
            base_ot_id=message.base_ot_id,
            sealed_base_ot=seal_base_keys(key, message.base_ot_id, keys),
            sealed_pending_base_ot=None,
            pending_base_ot_id=None,
            rotated_base_ot_id=message.base_ot_id,
            sealed_template=seal_template(key, epoch, message.share),
            template_attempts=0,
            change_challenge=None,
            sealed_change=None,
            updated_at=now,
        )
        detail: EventDetail = {"code_id": hashed.hex(), "epoch": epoch, "match": purpose == "rotate"}
        append_event(conn, at=now, enrolment_id=current.id, name="template_rotated", detail=detail)
    return Accepted(epoch, last_index).encode()


def settle(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Whether the rotation with this base OT was finished; one that was not is given up, so that a second request that
    is still on its way comes too late.

    Answered in every state, since it can only take power away. Raises Refused("unauthenticated"); DecodeError.
    """
    with ctx.store.read() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
    message = RotationSettle.decode(request.body)
    require_same_enrolment(enrolment, message.enrolment_id)
    with ctx.store.write_enrolment() as conn:
        current = load_enrolment(conn, enrolment.id, lock=True)
        if current is None:
            raise Refused("unauthenticated", field="signature")
        done = current.rotated_base_ot_id == message.base_ot_id
        # While enrolling or recovering, what is pending is none of a rotation's.
        if current.pending_base_ot_id == message.base_ot_id and current.status in ("active", "quarantined"):
            update_enrolment(
                conn, current.id, sealed_pending_base_ot=None, pending_base_ot_id=None, updated_at=ctx.clock()
            )
    return RotationSettled(done).encode()


def _profile_in_service(ctx: ServiceContext, enrolment: EnrolmentRow | None) -> Profile | None:
    if (
        enrolment is None
        or enrolment.status != "active"
        or enrolment.consecutive_failures >= ctx.policy.limits.consecutive_before_disabled
    ):
        return None
    return ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)


def _require_in_service(ctx: ServiceContext, enrolment: EnrolmentRow | None) -> Profile:
    profile = _profile_in_service(ctx, enrolment)
    if profile is None:
        raise Refused("not_active")
    return profile


def _require_begun(ctx: ServiceContext, enrolment: EnrolmentRow | None, message: RotationFinish) -> Profile:
    profile = _require_in_service(ctx, enrolment)
    assert enrolment is not None
    if enrolment.pending_base_ot_id != message.base_ot_id or enrolment.epoch != message.epoch:
        raise Refused("wrong_state")
    return profile


def _purpose_of(conn: Connection, enrolment_id: bytes, text: str, now: float) -> CodePurpose:
    """What this enrolment's code for a rotation is good for. Refused("bad_enrolment_code")."""
    hashed = code_hash(text)
    purposes: tuple[CodePurpose, ...] = ("rotate", "rotate_unmatched")
    for purpose in purposes if hashed is not None else ():
        code = find_code(conn, hashed or b"", purpose, now, UNLIMITED)
        if code is not None and code.enrolment_id == enrolment_id:
            return purpose
    raise Refused("bad_enrolment_code")


def _match_was_shown(conn: Connection, enrolment: EnrolmentRow) -> bool:
    """Whether the login confirmed last was over the challenge of the rotation under way.

    Confirming it took an answer that only a match opens.
    """
    index = enrolment.confirmed_index
    login = None if index is None else load_login(conn, enrolment.id, index)
    return login is not None and login.state == "confirmed" and login.kind == "rotate"


def _accepted(enrolment: EnrolmentRow, message: RotationFinish) -> bytes:
    return Accepted(message.epoch + 1, enrolment.last_index).encode()
