"""A second look of the same person, added under a match of the first: both sides have it, or neither has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import inspect
from state_machine_databases import BACKENDS, ON_ONE_DATABASE, copy_database, snapshot
from state_machine_harness import (
    ADD,
    BEARD,
    CONFIRMATIONS,
    FACE,
    GLASSES,
    GROWING,
    LOGINS,
    NO_LIMITS,
    PROFILE,
    REMOVE,
    STRANGER,
    Answer,
    Clock,
    Fate,
    HeldLogin,
    Network,
    Phone,
    Server,
    at_distance,
    copy_vault,
    deliver_twice,
    lose_answer,
    lose_request,
    overtaken_by_its_copy,
    policy,
)
from state_machine_processes import RemoteServer, run_device
from state_machine_thief import crafted_login

from authsvc.policy import Policy
from authsvc.services import administration
from authsvc.services.context import SignedRequest
from authsvc.store import migrate
from device_sdk.errors import (
    CodeRequired,
    DeviceRestored,
    EncodingError,
    EnrolmentRefused,
    InconsistentCaptures,
    NoMatch,
    NoSuchTemplate,
    NotActive,
    ProfileChanged,
    ServerRefused,
    ServerUnavailable,
    TooManyTemplates,
    TransportError,
)

ANNOUNCEMENTS = 3


@pytest.fixture
def use() -> Policy:
    return policy(GROWING)


@pytest.fixture
def server(folder: Path, clock: Clock, use: Policy) -> Iterator[Server]:
    worker = Server(folder, clock, use)
    yield worker
    worker.close()


@pytest.fixture
def phone(enrolled_folder: Path, folder: Path, server: Server) -> Iterator[Phone]:
    held = Phone(copy_vault(enrolled_folder, folder / "phone"), server)
    pin(held)
    yield held
    held.crash()


def pin(phone: Phone) -> None:
    """The profile as a phone has it that was enrolled under it."""
    phone.store.change(lambda state: replace(state, profile=GROWING))


def changed(face: np.ndarray, bits: int) -> np.ndarray:
    """The look with so many bits changed."""
    return face ^ (np.arange(512) < bits).astype(np.uint8)


LOOKS = {"face": FACE, "glasses": GLASSES, "beard": BEARD}


def looks_of(phone: Phone, server: Server, *others: str) -> list[str]:
    """Which of face, glasses and `others` may sign in; device and server must agree on everything."""
    row = server.enrolment(phone.id)
    assert (phone.state.epoch, phone.state.next) == (row.epoch, None)
    found = []
    for look in ("face", "glasses", *others):
        with contextlib.suppress(NoMatch):
            phone.get(LOOKS[look])
            assert phone.confirm()
            found.append(look)
    assert server.enrolment(phone.id).templates in (len(found), None if found == ["face"] else len(found))
    assert phone.device.templates == len(found)
    assert phone.state.profile == GROWING.with_templates(len(found))
    return found


def test_add_and_sign_in_with_either(phone: Phone, server: Server) -> None:
    """And the threshold for two holds for both, so that two chances are no more than one was."""
    before = server.enrolment(phone.id)
    assert phone.get(at_distance(120)) > 0 and phone.confirm()

    assert phone.grow() is True

    row = server.enrolment(phone.id)
    assert (row.templates, row.change_challenge, row.sealed_change) == (2, None, None)
    assert (row.base_ot_id, row.status) == (before.base_ot_id, "active")
    for face in (FACE, GLASSES):
        assert phone.get(changed(face, 110)) > 0 and phone.confirm()
        with pytest.raises(NoMatch):
            phone.get(changed(face, 111))
    assert looks_of(phone, server) == ["face", "glasses"]
    assert server.events(phone.id).count("template_added") == 1
    phone.restart()
    assert phone.get(GLASSES) > 0
    with pytest.raises(NoMatch):
        phone.get(STRANGER)


def test_an_attempt_costs_as_many_as_there_are_and_adding_gives_none_back(phone: Phone, server: Server) -> None:
    """Or somebody could add and remove for ever, and never come to the end of a template's attempts."""
    before = server.enrolment(phone.id).template_attempts
    phone.grow()
    assert server.enrolment(phone.id).template_attempts == before + 1

    phone.get()

    assert server.enrolment(phone.id).template_attempts == before + 3
    assert [row.cost for row in server.logins(phone.id)][-2:] == [1, 2]


def test_up_to_the_profiles_maximum(phone: Phone, server: Server) -> None:
    """Each under a match with any before it, and then no more, in words."""
    phone.grow()
    phone.grow(BEARD, match=GLASSES)
    assert looks_of(phone, server, "beard") == ["face", "glasses", "beard"]
    assert phone.get(changed(BEARD, 105)) > 0 and phone.confirm()
    with pytest.raises(NoMatch):
        phone.get(changed(BEARD, 106))
    sent = len(phone.network.requests)

    with pytest.raises(TooManyTemplates, match="remove one first"):
        phone.grow(STRANGER)

    assert len(phone.network.requests) == sent


@pytest.mark.parametrize(
    ("position", "match", "left"),
    [(0, FACE, ["glasses"]), (0, GLASSES, ["glasses"]), (1, FACE, ["face"])],
    ids=["the face, itself", "the face", "the glasses"],
)
def test_remove_one(phone: Phone, server: Server, position: int, match: np.ndarray, left: list[str]) -> None:
    """What is left gets the threshold for one again, and the other look is a stranger's."""
    phone.grow()

    assert phone.device.remove_template(position, match) is True

    assert looks_of(phone, server) == left
    assert phone.get(changed(FACE if left == ["face"] else GLASSES, 120)) > 0 and phone.confirm()
    assert server.events(phone.id).count("template_removed") == 1
    with pytest.raises(NoSuchTemplate):
        phone.device.remove_template(0, match)


@pytest.mark.parametrize("position", [-1, 2, 5, 300])
def test_a_template_that_is_not_there(phone: Phone, position: int) -> None:
    """Told before the user is asked for a capture."""
    phone.grow()

    with pytest.raises(NoSuchTemplate):
        phone.device.remove_template(position, never_asked)


def never_asked() -> np.ndarray:
    raise AssertionError("nothing is captured for what cannot be")


def test_of_three_the_middle_one_goes_and_the_others_keep_their_shares(phone: Phone, server: Server) -> None:
    phone.grow()
    phone.grow(BEARD)

    phone.device.remove_template(1, BEARD)

    assert looks_of(phone, server, "beard") == ["face", "beard"]
    phone.device.remove_template(0, FACE)
    assert looks_of(phone, server, "beard") == ["beard"]


@pytest.mark.parametrize(
    ("captures", "fault"),
    [([GLASSES] * 2, EncodingError), ([GLASSES, GLASSES, BEARD], InconsistentCaptures), ([], EncodingError)],
    ids=["two", "of two people", "none"],
)
def test_captures_that_make_no_template_are_told_before_the_match_is_asked_for(
    phone: Phone, server: Server, captures: list[np.ndarray], fault: type[Exception]
) -> None:
    before = server.dump()

    with pytest.raises(fault):
        phone.device.add_template(captures, never_asked)

    assert server.dump() == before


def test_captures_agree_by_the_threshold_for_so_many(phone: Phone) -> None:
    """Between the thresholds for one and for two: a template of those would refuse its own captures."""
    with pytest.raises(InconsistentCaptures):
        phone.device.add_template([GLASSES, GLASSES, changed(GLASSES, 115)], FACE)


def test_no_match_changes_nothing(phone: Phone, server: Server) -> None:
    """The new look itself is none: it is the person as he was enrolled who lets it in."""
    before = server.enrolment(phone.id).sealed_template
    for face in (GLASSES, STRANGER, at_distance(121)):
        with pytest.raises(NoMatch):
            phone.grow(match=face)

    assert server.enrolment(phone.id).sealed_template == before
    assert looks_of(phone, server) == ["face"]


PATHS = [ADD, LOGINS, CONFIRMATIONS]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fate", [lose_request, lose_answer])
def test_a_lost_message_leaves_both_sides_with_the_same_templates(
    phone: Phone, server: Server, path: str, fate: Fate
) -> None:
    """Before the match is stored here nothing has changed; from then on the next ceremony brings it to its end."""
    phone.network.plan(path, *[fate] * (ANNOUNCEMENTS if path == ADD else 1))
    if path == CONFIRMATIONS:
        assert phone.grow() is False
    else:
        with pytest.raises(TransportError):
            phone.grow()
    phone.restart()

    assert phone.get() > 0  # what is outstanding is settled first
    assert phone.confirm()

    assert looks_of(phone, server) == (["face", "glasses"] if path == CONFIRMATIONS else ["face"])
    assert server.events(phone.id).count("template_added") == (path == CONFIRMATIONS)
    if path != CONFIRMATIONS:
        assert phone.grow() is True and phone.device.templates == 2


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fate", [deliver_twice, overtaken_by_its_copy])
def test_a_repeated_message_does_no_harm(phone: Phone, server: Server, path: str, fate: Fate) -> None:
    phone.network.plan(path, fate)

    assert phone.grow() is True

    assert looks_of(phone, server) == ["face", "glasses"]
    assert server.events(phone.id).count("template_added") == 1


@pytest.mark.parametrize("fate", [lose_request, lose_answer])
def test_a_removal_whose_confirmation_is_lost(phone: Phone, server: Server, fate: Fate) -> None:
    phone.grow()
    phone.network.plan(CONFIRMATIONS, fate)

    assert phone.device.remove_template(0, FACE) is False

    phone.restart()
    assert phone.get(GLASSES) > 0 and phone.confirm()
    assert looks_of(phone, server) == ["glasses"]


def with_earlier_announcement(network: Network, request: SignedRequest) -> Answer:
    """The network delivers the first announcement again just before this request."""
    assert network.serve(network.sent(ADD)[0]).code == "ok"
    return network.serve(request)


def abandoned(phone: Phone) -> None:
    with pytest.raises(NoMatch):
        phone.grow(BEARD, match=STRANGER)


def test_an_earlier_announcement_that_arrives_late_is_overridden_again(phone: Phone, server: Server) -> None:
    """The login is for one change and the server waits for another: refused, not counted, and said anew."""
    abandoned(phone)
    attempts = server.enrolment(phone.id).template_attempts
    phone.network.plan(LOGINS, with_earlier_announcement)

    assert phone.grow() is True

    assert server.enrolment(phone.id).template_attempts == attempts + 1
    codes = [answer.code for request, answer in phone.network.answers if request.path == LOGINS]
    assert codes == ["ok", "wrong_state", "ok"]
    assert looks_of(phone, server) == ["face", "glasses"]


def test_an_earlier_announcement_that_arrives_after_the_match_undoes_it_on_both_sides(
    phone: Phone, server: Server
) -> None:
    """Never would the server add the one and the phone the other."""
    abandoned(phone)
    phone.network.plan(CONFIRMATIONS, with_earlier_announcement)

    with pytest.raises(ServerUnavailable):
        phone.grow()

    assert looks_of(phone, server) == ["face"]
    assert phone.grow() is True


def test_a_login_of_the_server_that_was_restored_is_dropped_with_its_change(phone: Phone, server: Server) -> None:
    """Row D6: the older shares hold on both sides, and there are as many as before."""
    server.close()
    restore = snapshot(server.path.parent)
    phone.network.plan(CONFIRMATIONS, lose_request)
    assert phone.grow() is False
    server.close()
    restore()

    assert phone.get() > 0 and phone.confirm()

    assert looks_of(phone, server) == ["face"]


def test_an_outstanding_confirmation_is_settled_first(phone: Phone, server: Server) -> None:
    phone.get()
    outstanding = phone.state.next
    assert outstanding is not None

    assert phone.grow() is True

    states = {row.ot_index: row.state for row in server.logins(phone.id)}
    assert states[outstanding.confirmation.ot_index] == "confirmed"


def test_what_was_announced_is_forgotten_with_its_epoch(phone: Phone, server: Server) -> None:
    """An ordinary login is confirmed in between: a share that lies about must not wait for a later match."""
    abandoned(phone)
    assert server.enrolment(phone.id).sealed_change is not None

    assert phone.get() > 0 and phone.confirm()

    row = server.enrolment(phone.id)
    assert (row.sealed_change, row.change_challenge) == (None, None)


def test_a_match_before_a_quarantine_comes_true_with_the_recovery(phone: Phone, server: Server) -> None:
    """As for an ordinary login, whose confirmation the recovery carries: both sides stand where the match left them."""
    phone.network.plan(CONFIRMATIONS, lose_request)
    assert phone.grow() is False
    bent = crafted_login(phone, ot_index=90, sign_count=90, bent_column=0)
    assert server.serve(bent).code == "quarantined"
    with pytest.raises(NotActive):
        phone.get()

    phone.device.recover(server.lift(phone.id))

    assert looks_of(phone, server) == ["face", "glasses"]


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_whatever_ends_the_templates_ends_an_announcement(phone: Phone, server: Server, how: str) -> None:
    """A sealed share of somebody who is gone stays nowhere."""
    abandoned(phone)
    if how == "rotate":
        phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), [FACE] * 3)
    else:
        administration.revoke_enrolment(server.ctx, phone.id)

    row = server.enrolment(phone.id)
    assert (row.sealed_change, row.change_challenge) == (None, None)


def test_a_rotation_replaces_all_templates(phone: Phone, server: Server) -> None:
    """As many as there are, and with the same threshold."""
    phone.grow()
    code = server.rotation_code(phone.id)
    with pytest.raises(EncodingError, match="2 groups"):
        phone.device.rotate_template(code, [FACE] * 3)

    phone.device.rotate_template(code, [[FACE] * 3, [BEARD] * 3])

    assert looks_of(phone, server, "beard") == ["face", "beard"]


def test_a_phone_that_was_overtaken_adds_nothing(phone: Phone, folder: Path, server: Server) -> None:
    """Its shares fit no more; it learns so before anybody is asked for a capture."""
    clone = phone.clone(folder / "clone", server)
    assert clone.get() > 0 and clone.confirm()

    with pytest.raises(DeviceRestored):
        phone.device.add_template([GLASSES] * 3, never_asked)

    assert phone.state.overtaken and server.enrolment(phone.id).sealed_change is None
    clone.crash()


def test_a_login_computed_with_one_template_is_not_answered_when_there_are_two(phone: Phone, server: Server) -> None:
    """Its circuit had the threshold for one."""
    row = server.enrolment(phone.id)
    held = HeldLogin(server, crafted_login(phone, ot_index=row.last_index + 1, sign_count=50))
    phone.grow()

    assert held.release().code == "stale_index"
    assert looks_of(phone, server) == ["face", "glasses"]


def test_the_history_tells_of_it(phone: Phone, server: Server) -> None:
    """The login that let it in and what came of it, chained with everything else."""
    phone.grow()
    phone.device.remove_template(1, FACE)

    history = phone.device.history()

    assert [record.kind for record in history.logins][:2] == ["change", "change"]
    told = {event.name: event.detail for event in history.events}
    epoch = phone.state.epoch
    assert told["template_added"] == {"epoch": epoch - 1, "templates": 2}
    assert told["template_removed"] == {"epoch": epoch, "templates": 1}


class TestPolicies:
    @pytest.mark.parametrize("thresholds", [(120, 110), (), (130, 110)], ids=["more", "none", "looser"])
    def test_a_phone_that_pinned_the_profile_before_there_were_thresholds(
        self, phone: Phone, folder: Path, clock: Clock, thresholds: tuple[int, ...]
    ) -> None:
        """It need not sign in first to learn of them, and takes nothing looser."""
        phone.store.change(lambda state: replace(state, profile=PROFILE))
        worker = self.moved(phone, folder, clock, thresholds)

        if thresholds == (120, 110):
            assert phone.grow() is True and phone.device.templates == 2
        else:
            with pytest.raises(TooManyTemplates):
                phone.device.add_template([GLASSES] * 3, never_asked)
        worker.close()

    def moved(self, phone: Phone, folder: Path, clock: Clock, thresholds: tuple[int, ...]) -> Server:
        changed = replace(GROWING, threshold=thresholds[0] if thresholds else 120, thresholds=thresholds)
        worker = Server(folder, clock, policy(changed))
        phone.network.serve, phone.network.profile_document = worker.serve, worker.profile_document
        return worker

    def test_a_server_without_thresholds_adds_none(self, phone: Phone, folder: Path, clock: Clock) -> None:
        worker = self.moved(phone, folder, clock, ())

        with pytest.raises(TooManyTemplates):
            phone.grow()

        assert "template_added" not in worker.events(phone.id)
        worker.close()

    def test_a_maximum_lowered_after_the_match_undoes_it_on_both_sides(
        self, phone: Phone, folder: Path, clock: Clock, server: Server
    ) -> None:
        """The server cannot serve two, so the phone must not believe in two."""
        phone.network.plan(CONFIRMATIONS, lose_request)
        assert phone.grow() is False
        worker = self.moved(phone, folder, clock, (120,))

        assert phone.get() > 0 and phone.confirm()

        assert phone.device.templates == 1 and phone.state.profile.thresholds == (120,)
        row = worker.enrolment(phone.id)
        assert (row.sealed_change, row.templates) == (None, 1)
        assert "failed" in worker.states(phone.id)  # that of the match
        worker.close()

    def test_a_policy_that_asks_for_codes_after_the_match_undoes_it_on_both_sides(
        self, phone: Phone, folder: Path, clock: Clock, server: Server
    ) -> None:
        phone.network.plan(CONFIRMATIONS, lose_request)
        assert phone.grow() is False
        worker = Server(folder, clock, policy(GROWING, added_templates_need_code=True))
        phone.network.serve = worker.serve

        assert phone.get() > 0 and phone.confirm()

        assert looks_of(phone, worker) == ["face"]
        worker.close()

    def test_stricter_thresholds_after_the_match_hold_for_both(
        self, phone: Phone, folder: Path, clock: Clock, server: Server
    ) -> None:
        phone.network.plan(CONFIRMATIONS, lose_request)
        assert phone.grow() is False
        worker = self.moved(phone, folder, clock, (119, 100))

        assert phone.get() > 0 and phone.confirm()

        assert phone.state.profile.threshold == 100 and phone.device.templates == 2
        assert phone.get(changed(GLASSES, 100)) > 0 and phone.confirm()
        with pytest.raises(NoMatch):
            phone.get(changed(GLASSES, 101))
        worker.close()

    def test_stricter_thresholds_at_the_announcement_are_taken_first(
        self, phone: Phone, folder: Path, clock: Clock
    ) -> None:
        """Whether the captures agree is for the rule to say that will hold."""
        worker = self.moved(phone, folder, clock, (119, 100))

        with pytest.raises(ProfileChanged):
            phone.grow()
        assert phone.grow() is True

        assert phone.state.profile.threshold == 100
        worker.close()

    def test_an_enrolment_with_more_than_are_served_is_out_of_service(
        self, phone: Phone, folder: Path, clock: Clock, server: Server
    ) -> None:
        """There is no threshold for it, and one for fewer would be too lenient."""
        phone.grow()
        worker = self.moved(phone, folder, clock, (120,))

        with pytest.raises(ServerRefused, match="too_large"):  # no enrolment that is served sends so much
            phone.get()
        with pytest.raises(NotActive):
            phone.device.remove_template(0, never_asked)
        worker.close()


class TestCodes:
    """Where the policy asks for an operator's code as well."""

    @pytest.fixture
    def use(self) -> Policy:
        return policy(GROWING, added_templates_need_code=True)

    def test_without_one(self, phone: Phone, server: Server) -> None:
        before = server.dump()

        with pytest.raises(CodeRequired):
            phone.device.add_template([GLASSES] * 3, never_asked)

        assert server.dump() == before

    def test_with_one_it_is_spent_by_the_match(self, phone: Phone, server: Server) -> None:
        """A wrong face costs no code; a right one costs it."""
        code = server.rotation_code(phone.id)
        with pytest.raises(NoMatch):
            phone.grow(match=STRANGER, code=code)

        assert phone.grow(code=code) is True

        assert looks_of(phone, server) == ["face", "glasses"]
        with pytest.raises(EnrolmentRefused):
            phone.grow(BEARD, code=code)
        phone.device.remove_template(1, FACE)  # giving up takes none
        assert looks_of(phone, server) == ["face"]

    def test_a_code_that_lets_a_rotation_go_without_a_match_does_not_here(self, phone: Phone, server: Server) -> None:
        code = server.rotation_code(phone.id, without_match=True)

        with pytest.raises(NoMatch):
            phone.grow(match=STRANGER, code=code)

        assert looks_of(phone, server) == ["face"]

    def test_a_code_withdrawn_after_the_match_undoes_it_on_both_sides(self, phone: Phone, server: Server) -> None:
        phone.network.plan(CONFIRMATIONS, lose_request)
        assert phone.grow(code=server.rotation_code(phone.id)) is False
        server.rotation_code(phone.id)

        assert phone.get() > 0 and phone.confirm()

        assert looks_of(phone, server) == ["face"]

    @pytest.mark.parametrize("code", ["00000-00000-00000-00000", "none"])
    def test_a_wrong_one(self, phone: Phone, server: Server, code: str) -> None:
        with pytest.raises(EnrolmentRefused):
            phone.device.add_template([GLASSES] * 3, never_asked, code=code)


def has_glasses(phone: Phone, server: Server) -> bool:
    """Whether the second look may sign in; device and server agree on it, and the phone can still sign in."""
    phone.get()  # brings what is outstanding to its end
    assert phone.confirm()
    row = server.enrolment(phone.id)
    assert (phone.state.epoch, phone.state.next, phone.device.templates) == (row.epoch, None, row.templates or 1)
    try:
        return phone.get(GLASSES) > 0
    except NoMatch:
        return False


@ON_ONE_DATABASE
def test_a_phone_killed_at_any_write_while_it_adds(enrolled_folder: Path, tmp_path: Path, clock: Clock) -> None:
    """The old set or the new one at both sides, a phone that can log in, and what was not done can be done."""

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        copy_database(enrolled_folder, folder)
        server = Server(folder, clock, policy(GROWING))
        phone = Phone(copy_vault(enrolled_folder, folder / "phone"), server)
        pin(phone)
        phone.get()  # leaves a confirmation to be settled on the way
        phone.crash()
        killed, _ = run_device(server, folder / "phone", die_at, "add")
        phone.open()
        found = has_glasses(phone, server)
        assert found or killed
        assert found or phone.grow()
        phone.crash()
        server.close()
        return killed

    deaths = next(die_at for die_at in count() if not scenario(die_at))
    # Settled, the index, the next shares, settled again: each with three points.
    assert deaths == 3 * 4


@pytest.mark.parametrize(
    ("enrolled_folder", "task"),
    [*((backend, "add") for backend in BACKENDS), ("sqlite", "remove")],  # which runs the same transactions
    indirect=["enrolled_folder"],
)
def test_a_server_killed_at_any_write(enrolled_folder: Path, tmp_path: Path, clock: Clock, task: str) -> None:
    """A kill is a lost request or a lost answer; the server that takes over goes on with what was committed."""

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        copy_database(enrolled_folder, folder)
        alive = Server(folder, clock, policy(GROWING))
        phone = Phone(copy_vault(enrolled_folder, folder / "phone"), alive)
        pin(phone)
        if task == "remove":
            phone.grow()
        dying = RemoteServer(folder, clock, die_at, policy(GROWING))
        phone.network.serve = dying.serve
        try:
            done = phone.grow() if task == "add" else phone.device.remove_template(0, GLASSES)
        except TransportError:
            done = None
        phone.network.serve = alive.serve
        died = dying.end()
        assert (done is True) == (not died)
        if task == "add":
            assert has_glasses(phone, alive) == (done is not None)
        else:
            assert phone.get(GLASSES) > 0 and phone.confirm()
            assert looks_of(phone, alive) == (["face", "glasses"] if done is None else ["glasses"])
        phone.crash()
        alive.close()
        return died

    deaths = next(die_at for die_at in count() if not scenario(die_at))
    # The announcement, the login, the confirmation: before, inside and after each.
    assert deaths == 3 * 3


def test_limits_hold_as_for_any_login(phone: Phone, folder: Path, clock: Clock, server: Server) -> None:
    """Showing a match is an attempt; whoever holds the phone gets no more of them this way."""
    assert NO_LIMITS.attempts_per_day > 1000
    tight = replace(NO_LIMITS, consecutive_before_disabled=2)
    worker = Server(folder, clock, policy(GROWING, tight))
    phone.network.serve = worker.serve
    for _ in range(2):
        with pytest.raises(NoMatch):
            phone.grow(match=STRANGER)

    with pytest.raises(NotActive):
        phone.grow()

    assert PROFILE.name in worker.ctx.policy.profiles
    assert phone.network.sent(REMOVE) == []
    worker.close()


def test_down_to_before_it_and_up_again(phone: Phone, server: Server) -> None:
    """Revision 0007 with data in place: a match that was not confirmed is as if it had never been heard of."""
    phone.grow()
    phone.device.remove_template(1, FACE)
    abandoned(phone)
    phone.network.plan(CONFIRMATIONS, lose_request)
    assert phone.grow() is False

    migrate.downgrade(server.store, "0006")
    with server.store.read() as conn:
        columns = {column["name"] for column in inspect(conn).get_columns("enrolments")}
        kinds = {row[0] for row in conn.exec_driver_sql("SELECT kind FROM logins")}
    assert not columns & {"templates", "change_challenge", "sealed_change"} and kinds == {"create", "get"}
    migrate.upgrade(server.store)

    assert phone.get() > 0 and phone.confirm()
    assert server.enrolment(phone.id).templates is None and phone.device.templates == 1
    assert phone.grow() is True and server.enrolment(phone.id).templates == 2


def test_going_back_is_refused_while_somebody_has_more_than_he_began_with(phone: Phone, server: Server) -> None:
    """The older code could not read them; what it would make of them is a lock-out. Nothing is changed."""
    phone.grow()
    before = server.dump()

    with pytest.raises(migrate.DowngradeRefused, match="1 enrolments have another number of templates"):
        migrate.downgrade(server.store, "0006")

    assert server.dump() == before
    administration.revoke_enrolment(server.ctx, phone.id)
    migrate.downgrade(server.store, "0006")
    migrate.upgrade(server.store)
