"""`Device.history()`: everything that was signed in a user's name, and servers that would rather it were not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from state_machine_databases import snapshot
from state_machine_harness import (
    AGED,
    ROTATIONS_FINISH,
    RP_ID,
    STRANGER,
    Answer,
    Clock,
    Phone,
    Server,
    deliver,
    lose_answer,
    with_body,
)
from state_machine_thief import crafted_login

from authsvc.services.administration import revoke_enrolment
from authsvc.services.context import SignedRequest
from authsvc.store.events import append_event
from device_sdk.errors import (
    HistoryAltered,
    NoMatch,
    Quarantined,
    ServerMisbehaved,
    ServerRefused,
    TandemError,
    TransportError,
)
from device_sdk.history import History
from mpc.login.history import (
    MAX_PAGE_BYTES,
    NO_HASH,
    PAGE_EVENTS,
    HistoryEvent,
    HistoryPage,
    HistoryRequest,
    event_hash,
    read_detail,
    write_detail,
)

HISTORY = "/v1/history"


def lived(phone: Phone) -> History:
    """A login that was confirmed, one of a stranger, one more; and what the device reads of it."""
    phone.get()
    assert phone.confirm()
    with pytest.raises(NoMatch):
        phone.get(STRANGER)
    phone.network.clock.advance(60)
    phone.get()
    assert phone.confirm()
    return phone.device.history()


def test_every_login_shows_newest_first_with_what_it_was_for(phone: Phone, clock: Clock) -> None:
    begun = clock()

    read = lived(phone)

    (credential,) = phone.device.credentials()
    shown = [(login.ot_index, login.kind, login.epoch, login.at - begun, login.confirmed_at) for login in read.logins]
    assert shown == [
        (4, "get", 2, 60.0, begun + 60),
        (3, "get", 2, 0.0, None),
        (2, "get", 1, 0.0, begun),
        (1, "create", 0, 0.0, begun),
    ]
    assert {(login.rp_id, login.credential_id) for login in read.logins} == {(RP_ID, credential.credential_id)}
    assert [event.seq for event in read.events] == list(range(len(read.events), 0, -1))
    assert [event.name for event in read.events][-2:] == ["credential_added", "enrolled"]


def test_reading_costs_no_attempt_and_changes_nothing_at_the_server(phone: Phone, server: Server) -> None:
    phone.get()
    before = server.dump()

    for _ in range(3):
        phone.device.history()

    assert server.dump() == before


def test_a_copys_login_shows_in_the_original(phone: Phone, clone: Phone, server: Server) -> None:
    """The one place where a user can see what a thief did in his name."""
    clone.get()
    assert clone.confirm()

    read = phone.device.history()

    assert read.logins[0].confirmed_at is not None and read.logins[0].epoch == phone.state.epoch
    with pytest.raises(Quarantined):
        phone.get()
    assert phone.device.history().events[0].name == "quarantined"


@pytest.mark.parametrize("state", ["quarantined", "recovering", "revoked"])
def test_it_works_whatever_the_enrolments_state(phone: Phone, server: Server, state: str) -> None:
    """A user whose enrolment is out of service has the most reason to look."""
    assert server.serve(crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)).code == "quarantined"
    if state == "recovering":
        server.lift(phone.id)
    elif state == "revoked":
        revoke_enrolment(server.ctx, phone.id)

    read = phone.device.history()

    assert {"attempt_failed", "quarantined"} <= {event.name for event in read.events}
    assert [event.detail["reason"] for event in read.events if event.name == "attempt_failed"] == ["ot_proof_failed"]


def test_after_a_recovery_it_goes_on_under_the_new_key(phone: Phone, server: Server) -> None:
    assert server.serve(crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)).code == "quarantined"
    phone.device.history()
    phone.device.recover(server.lift(phone.id))
    phone.get()
    assert phone.confirm()

    assert phone.device.history().logins[0].confirmed_at is not None


def test_a_long_history_comes_in_pages_of_bounded_size(phone: Phone, server: Server) -> None:
    """A page that grew with the history would one day not fit into anybody's memory."""
    with server.store.write() as conn:
        for at in range(2 * PAGE_EVENTS + 7):
            append_event(conn, at=float(at), name="recovered", enrolment_id=phone.id, detail={"reason": "x" * 40})

    read = phone.device.history()

    assert len(read.events) == read.events[0].seq > 2 * PAGE_EVENTS
    answers = [answer for request, answer in phone.network.answers if request.path == HISTORY]
    assert len(answers) == 3 and all(len(answer.body) <= MAX_PAGE_BYTES for answer in answers)


def test_a_history_that_grows_while_it_is_read_is_read_to_its_end(phone: Phone, server: Server) -> None:
    def grown(network: Any, request: SignedRequest) -> Answer:
        answer = deliver(network, request)
        with server.store.write() as conn:
            append_event(conn, at=1.0, name="recovered", enrolment_id=phone.id)
        return answer

    with server.store.write() as conn:
        for at in range(PAGE_EVENTS):
            append_event(conn, at=float(at), name="recovered", enrolment_id=phone.id)
    phone.network.plan(HISTORY, grown)

    assert phone.device.history().events[0].seq > PAGE_EVENTS + 3


def test_what_was_read_is_remembered_across_restarts_and_lost_answers(phone: Phone) -> None:
    lived(phone)
    head = phone.state.history
    assert head is not None and head.seq == phone.device.history().events[0].seq
    phone.network.plan(HISTORY, lose_answer)
    with pytest.raises(TransportError):
        phone.device.history()
    assert phone.state.history == head

    phone.restart()

    assert phone.state.history == head
    assert phone.device.history().events[0].seq == head.seq


def test_only_the_holder_of_the_request_key_reads(phone: Phone, clone: Phone, server: Server) -> None:
    """And only what is his: the body must name the enrolment that signed it."""
    phone.device.history()
    request = phone.network.sent(HISTORY)[-1]
    before, signature, after = request.headers["signature"].split(":")
    forged = ("B" if signature[0] == "A" else "A") + signature[1:]
    headers = {**request.headers, "signature": f"{before}:{forged}:{after}"}
    other = with_body(request, HistoryRequest(b"\x07" * 16).encode(), phone)

    assert server.serve(replace(request, body=request.body + b"\x00")).code == "unauthenticated"
    assert server.serve(replace(request, headers=headers)).code == "unauthenticated"
    assert server.serve(other).problem["field"] == "enrolment_id"
    assert server.serve(with_body(request, bytes(300), phone)).code == "too_large"


# ---- servers that lie ----------------------------------------------------------------------------

Events = list[HistoryEvent]


def chained(owner: bytes, events: Events, *, hashes: bool = True) -> HistoryPage:
    """A page of a chain that has always been like this."""
    digest = NO_HASH
    for seq, event in enumerate(events, start=1):
        digest = event_hash(digest, seq, event.at, owner, event.name, event.detail)
    return HistoryPage(tuple(events), len(events), digest if hashes else bytes(32))


class Liar:
    """A server in the enemy's hands: it answers history from a list of its own, every hash computed anew."""

    def __init__(self, phone: Phone, alter: Callable[[Events], Events]) -> None:
        self._honest, self._owner, self._alter = phone.network.serve, phone.id, alter
        phone.network.serve = self.serve

    def serve(self, request: SignedRequest) -> Answer:
        answer = self._honest(request)
        if request.path != HISTORY or answer.status != 200:
            return answer
        page = HistoryPage.decode(answer.body)
        return Answer(200, chained(self._owner, self._alter(list(page.events))).encode())


def without(name: str) -> Callable[[Events], Events]:
    return lambda events: [event for event in events if event.name != name]


def reordered(events: Events) -> Events:
    return [events[1], events[0], *events[2:]]


def dropped_second(events: Events) -> Events:
    return [events[0], *events[2:]]


def dropped_last(events: Events) -> Events:
    return events[:-1]


def another_time(events: Events) -> Events:
    return [replace(events[0], at=events[0].at - 3600), *events[1:]]


def another_site(events: Events) -> Events:
    return [replace(event, detail=event.detail.replace(RP_ID, "spy.example")) for event in events]


def one_more(events: Events) -> Events:
    return [events[0], HistoryEvent(1.0, "recovered", "{}"), *events[1:]]


@pytest.mark.parametrize(
    "alter", [reordered, dropped_second, another_time, another_site, one_more], ids=lambda alter: alter.__name__
)
def test_a_record_that_was_rewritten_after_it_was_read_is_caught(
    phone: Phone, alter: Callable[[Events], Events]
) -> None:
    """Every hash fits. The vault remembers one of them."""
    lived(phone)
    head = phone.state.history
    Liar(phone, alter)

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason in ("rewritten", "rolled_back")
    assert phone.state.history == head


def test_a_record_that_lost_its_end_is_caught(phone: Phone) -> None:
    lived(phone)
    Liar(phone, dropped_last)

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason == "rolled_back"


def test_a_fork_shown_to_one_device_is_caught_when_the_true_record_comes_back(phone: Phone) -> None:
    """It may show the owner a record without the thief's event, but then for ever."""
    phone.get()
    assert phone.confirm()
    honest = phone.network.serve
    Liar(phone, without("credential_activated"))
    phone.device.history()
    phone.network.serve = honest

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason == "rewritten"


@pytest.mark.parametrize("nothing_at_all", [False, True])
def test_logins_that_this_device_completed_cannot_be_left_out_even_at_the_first_look(
    phone: Phone, nothing_at_all: bool
) -> None:
    """Each began an epoch, and the device counts them itself."""
    phone.get()
    assert phone.confirm()
    assert phone.state.history is None
    Liar(phone, (lambda events: []) if nothing_at_all else dropped_last)

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason == "logins_missing"
    assert phone.state.history is None


def altered_detail(name: str, **changes: Any) -> Callable[[Events], Events]:
    def alter(events: Events) -> Events:
        return [
            replace(event, detail=write_detail(read_detail(event.detail) | changes)) if event.name == name else event
            for event in events
        ]

    return alter


def twice_answered(events: Events) -> Events:
    answered = next(event for event in events if event.name == "login_answered")
    return [answered, *events]


@pytest.mark.parametrize(
    "alter",
    [
        altered_detail("login_confirmed", epoch=0),
        altered_detail("login_answered", epoch=5),
        altered_detail("login_confirmed", kind="create"),
        altered_detail("login_answered", rp_id="spy.example"),
        altered_detail("login_answered", credential_id=None),
        twice_answered,
        lambda events: [events[-1], *events[:-1]],
    ],
)
def test_a_record_that_does_not_agree_with_itself_or_the_vault_is_caught(
    phone: Phone, alter: Callable[[Events], Events]
) -> None:
    phone.get()
    assert phone.confirm()
    Liar(phone, alter)

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason == "broken"


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (HistoryPage((), 5, bytes(32)), HistoryAltered),
        (HistoryPage((HistoryEvent(1.0, "enrolled", "{}"),), 1, bytes(32)), HistoryAltered),
        (HistoryPage((HistoryEvent(1.0, "enrolled", "{}"),), 0, bytes(32)), HistoryAltered),
        (None, ServerMisbehaved),
    ],
)
def test_a_page_that_cannot_be_is_refused(phone: Phone, page: HistoryPage | None, fault: type[TandemError]) -> None:
    phone.network.plan(HISTORY, lambda network, request: Answer(200, page.encode() if page else b"\xa0"))

    with pytest.raises(fault):
        phone.device.history()


def test_a_record_without_end_is_given_up(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """A malicious server must not fill the phone's memory."""
    monkeypatch.setattr("device_sdk.history.MAX_EVENTS", 3 * PAGE_EVENTS)
    events = (HistoryEvent(1.0, "enrolled", "{}"),) * PAGE_EVENTS
    phone.network.serve = lambda request: Answer(200, HistoryPage(events, 2**60, NO_HASH).encode())

    with pytest.raises(ServerMisbehaved) as caught:
        phone.device.history()

    assert caught.value.reason == "history_too_long"


def test_a_server_that_does_not_know_the_request_is_told_apart_from_one_that_lies(phone: Phone) -> None:
    problem = b'{"type":"urn:tandem:problem:not_found","title":"x","status":404,"detail":"x","code":"not_found"}'
    phone.network.plan(HISTORY, lambda network, request: Answer(404, problem))

    with pytest.raises(ServerRefused):
        phone.device.history()


def test_a_server_restored_to_an_older_state_is_noticed_by_its_devices(
    folder: Path, clock: Clock, phone: Phone, server: Server
) -> None:
    """The operator's own checkpoints may be gone with the disk; each device still knows what it saw."""
    server.close()
    restore = snapshot(folder)
    worker = Server(folder, clock)
    phone.network.serve = worker.serve
    lived(phone)
    worker.close()

    restore()

    worker = Server(folder, clock)
    phone.network.serve = worker.serve
    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()
    assert caught.value.reason in ("rolled_back", "logins_missing")
    worker.close()


def begun_at(epoch: int, **more: Any) -> HistoryEvent:
    return HistoryEvent(5.0, "history_begun", write_detail({"epoch": epoch, "last_index": epoch, **more}))


def rotated_to(epoch: int) -> HistoryEvent:
    return HistoryEvent(5.0, "template_rotated", write_detail({"epoch": epoch, "code_id": "00", "match": True}))


def from_before(phone: Phone) -> None:
    """A vault of a version that did not keep from where on its history must hold everything."""
    phone.device._store.change(lambda now: replace(now, history_from=None))


def begun_later(events: Events) -> Events:
    return [begun_at(2), *events[-2:]]


def test_a_record_that_begins_later_than_the_logins_says_so(phone: Phone) -> None:
    """A database from before the audit chain has no events of its logins; the record tells its first epoch."""
    for _ in range(2):
        phone.get()
        assert phone.confirm()
    from_before(phone)
    Liar(phone, begun_later)

    read = phone.device.history()

    assert [login.epoch for login in read.logins] == [2]
    assert read.events[-1].name == "history_begun" and read.events[-1].detail["epoch"] == 2
    assert phone.state.history_from == 2
    assert phone.device.history() == read


# What stands in the place of the logins of epochs 0 and 1, of which this phone completed both.
HIDING = [
    lambda events: [begun_at(2), *events[-2:]],
    lambda events: [rotated_to(1), rotated_to(2), *events[-2:]],
    lambda events: [*events[:-2], rotated_to(3)],
    lambda events: [begun_at(0), rotated_to(1), rotated_to(2), rotated_to(3)],
]


@pytest.mark.parametrize("hiding", HIDING)
def test_logins_are_not_hidden_behind_events_that_tell_an_epoch(
    phone: Phone, hiding: Callable[[Events], Events]
) -> None:
    """A device that takes the server's word for its epoch can be told any number of logins away."""
    for _ in range(2):
        phone.get()
        assert phone.confirm()
    Liar(phone, hiding)

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason == "logins_missing"


@pytest.mark.parametrize(
    "alter",
    [
        lambda events: [*events, begun_at(3)],
        lambda events: [begun_at(0), begun_at(0), *events],
        lambda events: [rotated_to(1), begun_at(0), *events],
        lambda events: [*events[:-2], rotated_to(5)],
        lambda events: [*events, rotated_to(2)],
    ],
)
def test_a_record_tells_each_epoch_where_it_can_begin(phone: Phone, alter: Callable[[Events], Events]) -> None:
    """Whatever the vault remembers: even one from before it kept where its history begins."""
    phone.get()
    assert phone.confirm()
    from_before(phone)
    Liar(phone, alter)

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert caught.value.reason == "broken"


def test_an_old_vault_takes_the_servers_word_only_once(phone: Phone) -> None:
    """Afterwards it counts like any other."""
    phone.get()
    assert phone.confirm()
    from_before(phone)
    phone.device.history()
    phone.device._store.change(lambda now: replace(now, history=None))
    Liar(phone, lambda events: [begun_at(2)])

    with pytest.raises(HistoryAltered) as caught:
        phone.device.history()

    assert phone.state.history_from == 0 and caught.value.reason == "logins_missing"


def test_a_rotation_that_this_phone_made_is_in_the_record_and_counted(phone: Phone, server: Server) -> None:
    """Also one whose answer was lost, which the phone may ask about only later."""
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)
    assert phone.state.rotations == 1
    phone.device.history()
    phone.network.plan(ROTATIONS_FINISH, *[lose_answer] * 3)
    with pytest.raises(TransportError):
        phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)

    names = [event.name for event in phone.device.history().events]

    assert names.count("template_rotated") == 2
    phone.get(AGED[0])
    assert phone.state.rotations == 2 and phone.state.rotation is None
    assert phone.device.history().logins[0].epoch == phone.state.epoch
