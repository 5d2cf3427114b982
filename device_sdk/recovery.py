"""After an operator lifted a quarantine: a new request key and new base OTs, under the operator's code."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from device_sdk.errors import (
    EnrolmentRefused,
    NotActive,
    ServerMisbehaved,
    ServerRefused,
    StaleAfterRecovery,
    TandemError,
)
from device_sdk.server_api import ServerApi, raise_as_fault
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey, ServerProblem
from device_sdk.vault.state import DeviceState, PendingRecovery
from mpc.errors import ProtocolAbort
from mpc.login.enrolment_messages import Accepted, RecoveryFinish, RecoveryStart
from mpc.ot.base_ot import BaseOtContext, sender_round_1
from mpc.primitives.rng import Rng


def recover(rng: Rng, store: StateStore, api: ServerApi, code: str) -> None:
    """Both requests; a recovery whose last answer was lost is finished first. Call with `store.in_flight` held.

    Raises StaleAfterRecovery if another copy of this device was confirmed later than this one: its shares are
    the current ones, so this device must enrol anew. Also EnrolmentRefused, NotActive, ServerMisbehaved,
    ServerRefused, TransportError.
    """
    if store.state.recovery is not None and _finished(store, api):
        return
    _begin(rng, store, api, code)
    if not _finished(store, api):
        # The request was delivered twice and we hold the earlier of two offers. The code is not spent.
        _begin(rng, store, api, code)
        _finish(store, api)


def finish_outstanding(store: StateStore, api: ServerApi) -> None:
    """If a recovery was begun and its last answer lost, ask again; whatever comes of it, nothing is thrown away."""
    if store.state.recovery is not None:
        with contextlib.suppress(TandemError):
            _finish(store, api)


def _finished(store: StateStore, api: ServerApi) -> bool:
    """Try to finish. False if the server refuses: it holds another offer by now, or has finished with ours before.

    What is pending stays: its key may be the only one that the server still accepts.
    """
    try:
        _finish(store, api)
    except (ServerRefused, EnrolmentRefused, NotActive):
        return False
    return True


def _begin(rng: Rng, store: StateStore, api: ServerApi, code: str) -> None:
    state = store.state
    new_key = RequestKey.generate()
    confirmation = state.next.confirmation if state.next else None
    message = RecoveryStart(state.enrolment_id, code, new_key.public_point(), state.epoch, confirmation)
    # A recovery that the server finished and we did not has changed the key that it knows us by.
    request_key = state.request_key
    try:
        try:
            offer = api.start_recovery(message, RequestKey.from_scalar(request_key))
        except ServerProblem as refusal:
            if refusal.problem.code != "unauthenticated" or state.recovery is None:
                raise
            request_key = state.recovery.request_key
            offer = api.start_recovery(message, RequestKey.from_scalar(request_key))
    except ServerProblem as refusal:
        problem = refusal.problem
        if problem.code == "unknown_login" and state.next is not None:
            if problem.epoch != state.epoch:
                raise StaleAfterRecovery from None
            # D6: the server never had that login, or does not have it any more; the older shares hold.
            store.change(lambda now: replace(now, next=None))
            _begin(rng, store, api, code)
            return
        if problem.code == "quarantined":  # C3: our login lost against one of another copy, in the same epoch
            raise StaleAfterRecovery from None
        raise_as_fault(refusal)
    # The server settled the confirmation before it answered; without one, the epochs must agree as they are.
    expected_epoch = state.promoted().epoch
    if offer.epoch > expected_epoch:
        raise StaleAfterRecovery
    if offer.epoch < expected_epoch or offer.enrolment_id != state.enrolment_id:
        raise ServerMisbehaved("wrong_epoch")
    try:
        base_keys, sender_message = sender_round_1(
            rng, BaseOtContext(offer.enrolment_id, offer.base_ot_id), offer.receiver_message
        )
    except ProtocolAbort as abort:
        raise ServerMisbehaved(abort.reason) from None
    pending = PendingRecovery(code, new_key.to_scalar(), offer.base_ot_id, base_keys, sender_message)
    store.change(lambda now: replace(now.promoted(), request_key=request_key, recovery=pending))


def _finish(store: StateStore, api: ServerApi) -> None:
    state = store.state
    pending = state.recovery
    if pending is None:
        return
    accepted = api.finish_recovery(
        RecoveryFinish(state.enrolment_id, pending.base_ot_id, pending.code, pending.sender_message),
        RequestKey.from_scalar(pending.request_key),
    )
    store.change(lambda now: _recovered(now, pending, accepted))


def _recovered(now: DeviceState, pending: PendingRecovery, accepted: Accepted) -> DeviceState:
    # A copy may have used indices and counters beyond ours; with the new base OT no stream can repeat.
    return replace(
        now.with_sign_counts(dict(accepted.sign_counts)),
        request_key=pending.request_key,
        base_ot_id=pending.base_ot_id,
        base_keys=pending.base_keys,
        ot_index=max(now.ot_index, accepted.last_index),
        overtaken=False,
        recovery=None,
    )
