"""The server's record of this enrolment, read from its first event on and checked.

A lying server can leave out what nobody else has seen. It cannot leave out or change what this vault has seen before,
nor a login that this device completed: each of those began a new epoch, and the device knows its own. Only a template
rotation begins one too, and the device counts those that it made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from device_sdk.errors import HistoryAltered, ServerMisbehaved
from device_sdk.server_api import ServerApi
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey
from device_sdk.vault.state import DeviceState, HistoryHead
from mpc.errors import DecodeError
from mpc.login.history import (
    HISTORY_BEGUN,
    LOGIN_ANSWERED,
    LOGIN_CONFIRMED,
    NO_HASH,
    TEMPLATE_ROTATED,
    HistoryEvent,
    HistoryRequest,
    LoginDetail,
    epoch_in,
    event_hash,
    read_detail,
)

MAX_EVENTS = 200_000
"""More than these are no history of a person, and would fill the device's memory."""


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """One event. seq counts from 1; at: Unix seconds by the server's clock; detail: ids and stable words."""

    seq: int
    at: float
    name: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LoginRecord:
    """A login that the server answered, so that a device with a matching capture could sign.

    kind: "create", "get", "change" or "rotate" (the match for a change of templates, or a rotation) or "verify" (a
    match for its own sake); the last three signed for nobody. confirmed_at: when the device proved that it had signed;
    None if it never did. Times are Unix seconds by the server's clock.
    """

    at: float
    rp_id: str | None
    credential_id: bytes
    kind: str
    ot_index: int
    epoch: int
    confirmed_at: float | None


@dataclass(frozen=True, slots=True)
class History:
    """Both newest first. `logins` is what `events` tell of logins, put together."""

    logins: tuple[LoginRecord, ...]
    events: tuple[RecordedEvent, ...]


def read_history(store: StateStore, api: ServerApi) -> History:
    """Fetch, check, and remember how far. Call with `store.in_flight` held.

    Raises HistoryAltered, ServerMisbehaved, ServerRefused, ServerUnavailable, TransportError.
    """
    state = store.state
    events, head = _fetched(state, api)
    try:
        told = _told(events, state)
    except DecodeError:
        raise HistoryAltered("broken") from None
    if state.history_from is None:
        store.change(lambda now: replace(now, history=head, history_from=told.begun_at, rotations=told.rotations))
    elif state.history != head:
        store.change(lambda now: replace(now, history=head))
    recorded = [RecordedEvent(seq, e.at, e.name, read_detail(e.detail)) for seq, e in enumerate(events, start=1)]
    return History(told.logins, tuple(reversed(recorded)))


def _fetched(state: DeviceState, api: ServerApi) -> tuple[list[HistoryEvent], HistoryHead]:
    """Every event, each proved by the chain to belong where it stands."""
    key = RequestKey.from_scalar(state.request_key)
    seen, reached = state.history, HistoryHead(0, NO_HASH)
    events: list[HistoryEvent] = []
    while True:
        page = api.history(HistoryRequest(state.enrolment_id, reached.seq), key)
        for event in page.events:
            seq = reached.seq + 1
            digest = event_hash(reached.hash, seq, event.at, state.enrolment_id, event.name, event.detail)
            reached = HistoryHead(seq, digest)
            if seen is not None and seq == seen.seq and reached != seen:
                raise HistoryAltered("rewritten")
        events.extend(page.events)
        # The record may grow between two pages, and never shrinks.
        if reached.seq > page.head_seq or (not page.events and reached.seq < page.head_seq):
            raise HistoryAltered("broken")
        if len(events) > MAX_EVENTS:
            raise ServerMisbehaved("history_too_long")
        if reached.seq == page.head_seq:
            if reached.hash != page.head_hash:
                raise HistoryAltered("broken")
            if seen is not None and reached.seq < seen.seq:
                raise HistoryAltered("rolled_back")
            return events, reached


@dataclass(frozen=True, slots=True)
class _Told:
    """What the record says, once it was found to agree with itself and with the vault."""

    logins: tuple[LoginRecord, ...]
    begun_at: int
    """The epoch from which on it holds every login."""
    rotations: int


def _told(events: list[HistoryEvent], state: DeviceState) -> _Told:
    """Answered and confirmed put together, newest first. HistoryAltered; DecodeError for a detail that says nothing.

    state: as it was before the server was asked, so the server's epoch is this one or a later one.
    """
    known = {credential.credential_id: credential.rp_id for credential in state.credentials}
    records: list[LoginRecord] = []
    places: dict[int, int] = {}
    epoch, begun_at, rotations = 0, None, 0
    for event in events:
        if event.name == HISTORY_BEGUN:
            # Logins from before it are in no record; a second one, or a later one, would hide those in between.
            if begun_at is not None or records or epoch_in(event.detail) < epoch:
                raise HistoryAltered("broken")
            epoch = begun_at = epoch_in(event.detail)
        elif event.name == TEMPLATE_ROTATED:
            epoch, rotations = epoch + 1, rotations + 1
            if epoch_in(event.detail) != epoch:
                raise HistoryAltered("broken")
            places.clear()
        elif event.name in (LOGIN_ANSWERED, LOGIN_CONFIRMED):
            told = LoginDetail.from_detail(event.detail)
            record = _record(told, event.at)
            place = places.get(told.ot_index)
            if told.epoch != epoch or told.rp_id not in (None, known.get(told.credential_id, told.rp_id)):
                raise HistoryAltered("broken")
            if event.name == LOGIN_ANSWERED:
                if place is not None:
                    raise HistoryAltered("broken")
                places[told.ot_index] = len(records)
                records.append(record)
                continue
            epoch += 1
            if place is None:  # answered before this record began
                records.append(replace(record, confirmed_at=event.at))
                continue
            answered = records[place]
            if replace(answered, rp_id=record.rp_id, at=record.at) != record:
                raise HistoryAltered("broken")
            records[place] = replace(answered, confirmed_at=event.at)
    found = _Told(tuple(reversed(records)), begun_at or 0, rotations)
    if epoch < state.epoch or not _is_counted(found, state):
        raise HistoryAltered("logins_missing")
    return found


def _is_counted(found: _Told, state: DeviceState) -> bool:
    """Whether the record begins where the vault says, and no rotation stands in the place of a login."""
    if state.history_from is None:
        return True
    # One may be done that this device has not been told of.
    made = {state.rotations, state.rotations + (state.rotation is not None)}
    return found.begun_at == state.history_from and found.rotations in made


def _record(told: LoginDetail, at: float) -> LoginRecord:
    return LoginRecord(at, told.rp_id, told.credential_id, told.kind, told.ot_index, told.epoch, None)
