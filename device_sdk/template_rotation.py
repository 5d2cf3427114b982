"""A new template for an enrolment that keeps its passkeys: under the operator's code, and a match of the old one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.biometrics import Encoder
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.confirmer import Confirmer
from device_sdk.enrolment import make_templates
from device_sdk.errors import (
    DeviceRestored,
    ServerMisbehaved,
    ServerRefused,
    ServerUnavailable,
    TandemError,
    TransportError,
)
from device_sdk.match_login import MATCH_TIMEOUT_S, mark_overtaken, settle_confirmation, show_match
from device_sdk.server_api import Deadline, ServerApi, raise_as_fault
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey, ServerProblem
from device_sdk.vault.state import DeviceState, PendingRotation
from mpc.errors import ProtocolAbort
from mpc.login.enrolment_messages import Accepted
from mpc.login.rotation_messages import (
    RotationFinish,
    RotationOffer,
    RotationSettle,
    RotationStart,
    rotation_challenge,
)
from mpc.login.template import share_template
from mpc.ot.base_ot import BaseOtContext, sender_round_1
from mpc.primitives.rng import Rng

_FINISH_TRIES = 3
_ATTEMPTS = 2


def rotate_template(
    rng: Rng,
    store: StateStore,
    api: ServerApi,
    confirmer: Confirmer,
    *,
    encoder: Encoder,
    code: str,
    captures: Sequence[Any],
    now: float,
    report: ReportBuilder,
) -> None:
    """Both requests and, where the code asks for it, the login between them. Call with `store.in_flight` held.

    A rotation whose last answer was lost is settled first; if it was finished there is nothing more to do. For the
    faults see `Device.rotate_template`.
    """
    with report.step("device: capture and encode"):
        codes, masks = make_templates(encoder, captures, store.state.profile)
        group = captures if store.state.profile.templates == 1 else captures[0]
        probes = [encoder.encode(sample) for sample in group[:_ATTEMPTS]]
    if settle_rotation(store, api):
        return
    for probe in probes:
        # The first request may have arrived twice, so that the server holds the later of two offers. A login with the
        # capture of the first attempt was answered: a server that could have it said again would learn one bit more.
        offer = _begun(store, api, confirmer, code)
        if offer.match:
            challenge = ClientDataHash(rotation_challenge(offer.enrolment_id, offer.base_ot_id))
            show_match(rng, store, api, challenge, probe, deadline=Deadline(MATCH_TIMEOUT_S), now=now, report=report)
            settle_confirmation(store, confirmer)
        pending, message = _prepared(rng, store, offer, code, codes, masks)
        store.change(lambda before, pending=pending: replace(before, rotation=pending))  # type: ignore[misc]
        if _finished(store, api, pending, message):
            return
    raise ServerUnavailable


def settle_rotation(store: StateStore, api: ServerApi) -> bool:
    """Find out what became of a rotation whose answer was lost, which ends it one way or the other: True if the new
    template is in place. False also where there is nothing to settle.

    Call with `store.in_flight` held. Raises TransportError and the faults of `raise_as_fault`; then nothing changed.
    """
    state = store.state
    pending = state.rotation
    if pending is None:
        return False
    message = RotationSettle(state.enrolment_id, pending.base_ot_id)
    try:
        try:
            settled = api.settle_rotation(message, RequestKey.from_scalar(state.request_key))
        except ServerProblem as refusal:
            if refusal.problem.code != "unauthenticated" or state.recovery is None:
                raise
            # A recovery that only the server knows to be done has changed the key that it knows us by.
            settled = api.settle_rotation(message, RequestKey.from_scalar(state.recovery.request_key))
    except ServerProblem as refusal:
        raise_as_fault(refusal)
    store.change(lambda now: now.rotated(pending) if settled.done else replace(now, rotation=None))
    return settled.done


def _begun(store: StateStore, api: ServerApi, confirmer: Confirmer, code: str) -> RotationOffer:
    """The offer, with nothing outstanding at either side."""
    if store.state.overtaken:
        raise DeviceRestored
    settle_confirmation(store, confirmer)
    state = store.state
    message = RotationStart(state.enrolment_id, code, state.epoch)
    offer = api.start_rotation(message, RequestKey.from_scalar(state.request_key))
    if offer.epoch > state.epoch:
        mark_overtaken(store)
        raise DeviceRestored
    if offer.epoch < state.epoch or offer.enrolment_id != state.enrolment_id:
        raise ServerMisbehaved("wrong_epoch")
    return offer


def _prepared(
    rng: Rng, store: StateStore, offer: RotationOffer, code: str, codes: bytes, masks: bytes
) -> tuple[PendingRotation, RotationFinish]:
    """(what this device keeps, what the server gets)."""
    state = store.state
    try:
        base_keys, sender_message = sender_round_1(
            rng, BaseOtContext(offer.enrolment_id, offer.base_ot_id), offer.receiver_message
        )
    except ProtocolAbort as abort:
        raise ServerMisbehaved(abort.reason) from None
    own, server = share_template(rng, codes, masks)
    message = RotationFinish(
        enrolment_id=state.enrolment_id,
        base_ot_id=offer.base_ot_id,
        code=code,
        epoch=state.epoch,
        ot_index=state.ot_index,
        sender_message=sender_message,
        share=server,
    )
    return PendingRotation(offer.base_ot_id, base_keys, state.epoch, own), message


def _finished(store: StateStore, api: ServerApi, pending: PendingRotation, message: RotationFinish) -> bool:
    """Send the second request, again if the answer is lost. False if the server holds another offer by now."""
    key = RequestKey.from_scalar(store.state.request_key)
    try:
        accepted = _sent(api, message, key)
    except TransportError:
        raise  # it may be done: `settle_rotation` finds out
    except TandemError as fault:
        # Refused: the old template holds. What is asked here decides, not the refusal.
        done = False
        with contextlib.suppress(TandemError):
            done = settle_rotation(store, api)
        if done or (isinstance(fault, ServerRefused) and fault.code == "wrong_state" and store.state.rotation is None):
            return done
        raise
    if accepted.epoch != pending.epoch + 1:
        raise ServerMisbehaved("wrong_epoch")
    store.change(lambda now: _adopted(now, pending, accepted))
    return True


def _adopted(now: DeviceState, pending: PendingRotation, accepted: Accepted) -> DeviceState:
    return now.rotated(pending, last_index=accepted.last_index)


def _sent(api: ServerApi, message: RotationFinish, key: RequestKey) -> Accepted:
    for _ in range(_FINISH_TRIES - 1):
        with contextlib.suppress(TransportError, ServerUnavailable):
            return api.finish_rotation(message, key)
    return api.finish_rotation(message, key)
