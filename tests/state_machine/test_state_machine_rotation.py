"""A new template in place of the old one: the passkeys stay, and whatever is lost, one of the two templates holds."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from state_machine_databases import ON_ONE_DATABASE, copy_database, snapshot
from state_machine_harness import (
    AGED,
    CONFIRMATIONS,
    FACE,
    LATER,
    LOGINS,
    ROTATIONS,
    ROTATIONS_FINISH,
    ROTATIONS_SETTLE,
    STRANGER,
    Clock,
    Fate,
    HeldLogin,
    Phone,
    Server,
    copy_vault,
    deliver_twice,
    lose_answer,
    lose_request,
    overtaken_by_its_copy,
    policy,
)
from state_machine_processes import RemoteServer, run_device
from state_machine_thief import as_request, crafted_login

from authsvc.errors import Refused
from authsvc.policy import Limits
from authsvc.services import administration
from device_sdk import BinaryCode, match_login
from device_sdk.errors import (
    DeviceRestored,
    NoMatch,
    StaleAfterRecovery,
    TandemError,
    TransportError,
)
from device_sdk.joint_login import JointLogin, Signed, sign_jointly

FINISH_TRIES = 3


def template_of(phone: Phone, server: Server) -> str:
    """Which template holds, by who may sign in; device and server must agree on it."""
    row = server.enrolment(phone.id)
    assert phone.state.rotation is None
    assert (phone.state.epoch, phone.state.base_ot_id) == (row.epoch, row.base_ot_id)
    with pytest.raises(NoMatch):
        phone.get(STRANGER)
    try:
        phone.get(LATER)
    except NoMatch:
        assert phone.get(FACE) > 0 and phone.confirm()
        return "old"
    assert phone.confirm()
    assert phone.get(AGED[0]) > 0 and phone.confirm()
    return "new"


def test_rotate_and_sign_in_with_the_passkeys_of_before(phone: Phone, server: Server) -> None:
    """Without it, a template that has aged or used up its attempts costs the user every passkey."""
    before, row = phone.state, server.enrolment(phone.id)
    passkeys = [credential.credential_id for credential in before.credentials]

    phone.device.rotate_template(server.rotation_code(phone.id), AGED)

    after = server.enrolment(phone.id)
    assert phone.state.base_ot_id != before.base_ot_id and phone.state.request_key == before.request_key
    assert [credential.credential_id for credential in phone.state.credentials] == passkeys
    assert (after.template_attempts, after.pending_base_ot_id) == (0, None)
    # the login that showed the match, and the index that the rotation uses up
    assert after.last_index == phone.state.ot_index == row.last_index + 2
    assert after.epoch == row.epoch + 2  # the login that showed the match, and the rotation
    assert template_of(phone, server) == "new"
    assert server.events(phone.id).count("template_rotated") == 1


def test_the_enrolment_is_in_service_until_the_new_template_is_in_place(phone: Phone, server: Server) -> None:
    """A code that somebody has not used yet, and an offer that nobody took up, lock nobody out."""
    code = server.rotation_code(phone.id)
    assert phone.get() > 0 and phone.confirm()
    phone.network.plan(LOGINS, lose_request)
    with pytest.raises(TransportError):
        phone.device.rotate_template(code, AGED)

    assert template_of(phone, server) == "old"


def test_an_outstanding_confirmation_is_settled_first(phone: Phone, server: Server) -> None:
    """A login that the app has used must not be forgotten because its template went."""
    phone.get()
    outstanding = phone.state.next
    assert outstanding is not None

    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)

    states = {row.ot_index: row.state for row in server.logins(phone.id)}
    assert states[outstanding.confirmation.ot_index] == "confirmed"
    assert template_of(phone, server) == "new"


def test_a_login_that_a_restored_server_never_heard_of_is_dropped_on_the_way(phone: Phone, server: Server) -> None:
    """Row D6: the older shares hold on both sides, and the rotation goes on from there."""
    server.close()
    restore = snapshot(server.path.parent)
    phone.get()
    server.close()
    restore()

    phone.device.rotate_template(server.rotation_code(phone.id), AGED)

    assert template_of(phone, server) == "new"


@pytest.mark.parametrize("path", [ROTATIONS, LOGINS, CONFIRMATIONS, ROTATIONS_FINISH])
@pytest.mark.parametrize("fate", [lose_request, lose_answer])
@pytest.mark.parametrize(("restarted", "then"), [(True, "sign in"), (False, "again")])
def test_a_lost_message_leaves_one_template_and_the_code_works_as_long_as_it_is_not_spent(
    phone: Phone, server: Server, path: str, fate: Fate, restarted: bool, then: str
) -> None:
    """Device and server never part: what was lost is found out at the next ceremony, or by saying it again."""
    code = server.rotation_code(phone.id)
    phone.network.plan(path, *[fate] * (FINISH_TRIES if path == ROTATIONS_FINISH else 1))
    with pytest.raises(TransportError):
        phone.device.rotate_template(code, AGED)
    if restarted:
        phone.restart()

    if then == "again":
        phone.device.rotate_template(code, AGED)
        assert template_of(phone, server) == "new"
    else:
        phone.get(AGED[0])  # fits both
        assert phone.confirm()
        done = path == ROTATIONS_FINISH and fate is lose_answer
        assert template_of(phone, server) == ("new" if done else "old")
        assert server.events(phone.id).count("template_rotated") == done


@pytest.mark.parametrize("path", [ROTATIONS, LOGINS, CONFIRMATIONS, ROTATIONS_FINISH])
@pytest.mark.parametrize("fate", [deliver_twice, overtaken_by_its_copy])
def test_a_repeated_message_does_no_harm(phone: Phone, server: Server, path: str, fate: Fate) -> None:
    """Networks repeat. Of two offers the later counts, and the phone begins again with its next capture."""
    phone.network.plan(path, fate)

    phone.device.rotate_template(server.rotation_code(phone.id), AGED)

    assert template_of(phone, server) == "new"
    assert server.events(phone.id).count("template_rotated") == 1


def test_no_capture_is_sent_twice_where_the_phone_begins_again(
    phone: Phone, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that could have one answered capture said again would learn another bit of it."""
    captures = [capture.copy() for capture in AGED]
    for at, capture in enumerate(captures):
        capture[500 + at] ^= 1
    used: list[bytes] = []

    def watched(rng: Any, store: Any, api: Any, wanted: JointLogin, *more: Any) -> Signed:
        used.append(wanted.probe.packed())
        return sign_jointly(rng, store, api, wanted, *more)

    monkeypatch.setattr(match_login, "sign_jointly", watched)
    phone.network.plan(ROTATIONS, deliver_twice)

    phone.device.rotate_template(server.rotation_code(phone.id), captures)

    assert used == [BinaryCode(capture).packed() for capture in captures[:2]]


def test_a_second_request_that_comes_after_it_was_given_up_is_refused(phone: Phone, server: Server) -> None:
    """Delayed on the way: the phone has asked meanwhile, was told no, and goes on with the old template."""
    phone.network.plan(ROTATIONS_FINISH, *[lose_request] * FINISH_TRIES)
    with pytest.raises(TransportError):
        phone.device.rotate_template(server.rotation_code(phone.id), AGED)
    late = phone.network.sent(ROTATIONS_FINISH)[0]
    assert phone.get() > 0

    assert server.serve(late).code == "wrong_state"
    assert phone.confirm()
    assert template_of(phone, server) == "old"


def test_while_nobody_knows_which_template_holds_no_login_is_sent(phone: Phone, server: Server) -> None:
    """The late request could commit in between, and the login's token would then accuse the phone as a clone."""
    phone.network.plan(ROTATIONS_FINISH, *[lose_request] * FINISH_TRIES)
    with pytest.raises(TransportError):
        phone.device.rotate_template(server.rotation_code(phone.id), AGED)
    sent = len(phone.network.sent(LOGINS))
    phone.network.plan(ROTATIONS_SETTLE, lose_request)

    with pytest.raises(TransportError):
        phone.get()
    assert len(phone.network.sent(LOGINS)) == sent and phone.state.rotation is not None

    assert server.serve(phone.network.sent(ROTATIONS_FINISH)[0]).code == "ok"
    assert phone.get(AGED[0]) > 0 and phone.confirm()
    assert template_of(phone, server) == "new"


def test_a_rotation_that_only_the_server_knows_of_survives_a_lift_and_a_recovery(phone: Phone, server: Server) -> None:
    """Lifting forgets which base OT there was, but not which one a rotation put in place."""
    phone.network.plan(ROTATIONS_FINISH, *[lose_answer] * FINISH_TRIES)
    with pytest.raises(TransportError):
        phone.device.rotate_template(server.rotation_code(phone.id), AGED)
    code = administration.lift(server.ctx, phone.id, also_active=True).code

    phone.device.recover(code)

    assert template_of(phone, server) == "new"


def test_a_lift_ends_a_rotation_that_was_begun(phone: Phone, server: Server) -> None:
    """The operator's later word counts: code and offer are gone, and the old template comes back with the device."""
    phone.network.plan(ROTATIONS_FINISH, *[lose_request] * FINISH_TRIES)
    with pytest.raises(TransportError):
        phone.device.rotate_template(server.rotation_code(phone.id), AGED)
    late = phone.network.sent(ROTATIONS_FINISH)[0]
    phone.device.recover(administration.lift(server.ctx, phone.id, also_active=True).code)

    assert server.serve(replace_signature(phone, late.body)).code == "wrong_state"
    assert template_of(phone, server) == "old"


def replace_signature(phone: Phone, body: bytes) -> object:
    return as_request(phone, body, ROTATIONS_FINISH)


def test_a_pending_login_of_the_old_template_cannot_be_confirmed_against_the_new_one(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """Its refresh is of other shares. Whoever shows its token opened an answer that this phone never got: a copy."""
    phone.network.plan(LOGINS, lambda network, request: network.serve(request))
    clone.get()
    token = clone.state.next
    assert token is not None
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)
    before = server.enrolment(phone.id)

    with pytest.raises(TandemError):
        clone.confirm()

    after = server.enrolment(phone.id)
    assert (after.sealed_template, after.epoch) == (before.sealed_template, before.epoch)
    assert (after.status, after.status_reason) == ("quarantined", "clone_proved")


def test_a_login_computed_before_the_rotation_is_not_answered_after_it(phone: Phone, server: Server) -> None:
    """Its verdict is of the old template and the old Δ, neither of which holds when it would be told."""
    row = server.enrolment(phone.id)
    held = HeldLogin(server, crafted_login(phone, ot_index=row.last_index + 1, sign_count=50))
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)
    counted = server.enrolment(phone.id).template_attempts

    assert held.release().code == "stale_index"
    assert server.enrolment(phone.id).template_attempts == counted == 0
    assert template_of(phone, server) == "new"


def test_a_copy_from_before_the_rotation_is_quarantined(phone: Phone, clone: Phone, server: Server) -> None:
    """It names the base OT of before. Refused for that, it would stay in service and nobody would learn of it."""
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)
    counted = server.enrolment(phone.id).template_attempts

    assert server.serve(crafted_login(clone, ot_index=50, sign_count=50)).code == "quarantined"

    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason) == ("quarantined", "clone_suspected")
    assert row.sealed_base_ot is None and row.template_attempts > counted
    phone.device.recover(server.lift(phone.id))
    assert template_of(phone, server) == "new"


def test_the_phones_own_login_delayed_across_a_rotation_accuses_nobody(phone: Phone, server: Server) -> None:
    """It was lost on the way, the operator vouched for a rotation, and then the network delivered it."""
    phone.network.plan(LOGINS, lose_request)
    with pytest.raises(TransportError):
        phone.get()
    late = phone.network.sent(LOGINS)[-1]
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)

    assert server.serve(late).code == "stale_index"

    assert template_of(phone, server) == "new"


def test_several_of_its_logins_delayed_across_a_rotation_accuse_nobody(phone: Phone, server: Server) -> None:
    """The network was away for a while; whichever of them comes after the rotation, its index is used up."""
    phone.network.plan(LOGINS, *[lose_request] * 3)
    for _ in range(3):
        with pytest.raises(TransportError):
            phone.get()
    late = phone.network.sent(LOGINS)[-3:]
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)

    assert [server.serve(request).code for request in late] == ["stale_index"] * 3

    assert server.enrolment(phone.id).last_index <= phone.state.ot_index
    assert template_of(phone, server) == "new"


def test_a_vault_restored_to_before_the_rotation_is_told_so(phone: Phone, clone: Phone, server: Server) -> None:
    """Its template share fits no more. Without a new epoch a recovery would give it base keys and no match ever."""
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)
    with pytest.raises(TandemError):
        clone.get()
    code = administration.lift(server.ctx, phone.id, also_active=True).code

    with pytest.raises(StaleAfterRecovery):
        clone.device.recover(code)

    phone.device.recover(code)
    assert template_of(phone, server) == "new"


def test_a_copy_that_was_overtaken_cannot_rotate(phone: Phone, clone: Phone, server: Server) -> None:
    """The phone has moved on; the copy's epoch is over, and it learns so before it makes anything."""
    assert phone.get() > 0 and phone.confirm()
    code = server.rotation_code(phone.id)

    with pytest.raises(DeviceRestored):
        clone.device.rotate_template(code, AGED)

    assert server.enrolment(phone.id).pending_base_ot_id is None
    phone.device.rotate_template(code, AGED)
    assert template_of(phone, server) == "new"


class TestBudgets:
    LIMITS = Limits(attempts_per_template=6, unconfirmed_per_30_days=10**6, attempts_per_day=10**6)

    @pytest.fixture
    def server(self, folder: Path, clock: Clock) -> Server:
        return Server(folder, clock, policy(limits=self.LIMITS))

    def spend(self, phone: Phone) -> None:
        with pytest.raises(TandemError, match="used up"):
            while True:
                phone.get()
                phone.confirm()

    def test_with_the_attempts_used_up_only_the_operator_can_vouch(self, phone: Phone, server: Server) -> None:
        """And the server says so to him, instead of giving a code that cannot work; it never falls back by itself."""
        self.spend(phone)
        with pytest.raises(Refused, match="match_impossible"):
            server.rotation_code(phone.id)

        phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)

        assert server.enrolment(phone.id).template_attempts == 0
        assert phone.get(LATER) > 0 and phone.confirm()

    def test_a_code_from_before_they_were_used_up_still_asks_for_the_match(self, phone: Phone, server: Server) -> None:
        """Whoever holds the device can spend the budget; that must not free him of the match."""
        code = server.rotation_code(phone.id)
        self.spend(phone)

        with pytest.raises(TandemError, match="used up"):
            phone.device.rotate_template(code, AGED)

        assert server.events(phone.id).count("template_rotated") == 0

    def test_other_budgets_and_failures_in_a_row_stay(self, phone: Phone, server: Server) -> None:
        """A rotation is no way to try more often than the limits allow."""
        for _ in range(2):
            with pytest.raises(NoMatch):
                phone.get(STRANGER)
        before = server.enrolment(phone.id)

        phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)

        after = server.enrolment(phone.id)
        assert after.consecutive_failures == before.consecutive_failures == 2
        assert len(server.logins(phone.id)) == before.template_attempts


@pytest.mark.parametrize("state", ["quarantined", "recovering", "revoked"])
def test_only_an_enrolment_in_service_gets_a_code(phone: Phone, server: Server, state: str) -> None:
    """Out of service it has no shares that a rotation could stand on."""
    if state == "revoked":
        administration.revoke_enrolment(server.ctx, phone.id)
    else:
        assert server.serve(crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)).code == "quarantined"
        if state == "recovering":
            server.lift(phone.id)

    with pytest.raises(Refused, match="wrong_state"):
        server.rotation_code(phone.id, without_match=True)


@ON_ONE_DATABASE
def test_a_phone_killed_at_any_write_of_its_rotation_keeps_one_of_the_templates(
    enrolled_folder: Path, tmp_path: Path, clock: Clock
) -> None:
    """The vault knows of the second request before the server can; the code works until the server has used it."""

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        copy_database(enrolled_folder, folder)
        server = Server(folder, clock)
        phone = Phone(copy_vault(enrolled_folder, folder / "phone"), server)
        phone.get()  # leaves a confirmation to be settled on the way
        code = server.rotation_code(phone.id)
        phone.crash()
        killed, _ = run_device(server, folder / "phone", die_at, "rotate", code)
        phone.open()
        phone.get(AGED[0])
        assert phone.confirm()
        found = template_of(phone, server)
        assert killed or found == "new"
        if found == "old":
            phone.device.rotate_template(code, AGED)
            assert template_of(phone, server) == "new"
        phone.crash()
        server.close()
        return killed

    deaths = next(die_at for die_at in count() if not scenario(die_at))
    # Settled, index, next shares, settled again, the second request, the new state: each with three points.
    assert deaths == 3 * 6


def test_a_server_killed_at_any_write_of_a_rotation(enrolled_folder: Path, tmp_path: Path, clock: Clock) -> None:
    """A kill is a lost request or a lost answer; the same code finishes the rotation on the server that takes over."""

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        copy_database(enrolled_folder, folder)
        alive = Server(folder, clock)
        phone = Phone(copy_vault(enrolled_folder, folder / "phone"), alive)
        code = alive.rotation_code(phone.id)
        dying = RemoteServer(folder, clock, die_at)
        phone.network.serve = dying.serve
        try:
            phone.device.rotate_template(code, AGED)
        except TransportError:
            phone.network.serve = alive.serve
            phone.device.rotate_template(code, AGED)
        died = dying.end()
        phone.network.serve = alive.serve
        assert template_of(phone, alive) == "new"
        assert alive.events(phone.id).count("template_rotated") == 1
        phone.crash()
        alive.close()
        return died

    deaths = next(die_at for die_at in count() if not scenario(die_at))
    # The try of the code, offer, login, confirmation, second request: before, inside and after each.
    assert deaths == 3 * 5
