"""After a quarantine: the operator lifts, the device brings a new key and new base OTs, and a copy is left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_databases import snapshot
from state_machine_harness import (
    CONFIRMATIONS,
    ENCODER,
    FACE,
    LOGINS,
    PROFILE,
    RECOVERIES,
    RECOVERIES_FINISH,
    SERVER_URL,
    STRANGER,
    Answer,
    Clock,
    Fate,
    Network,
    Phone,
    Server,
    deliver_twice,
    lose_answer,
    lose_request,
    opened_message,
    overtaken_by_its_copy,
    signed,
    to_base64,
)
from state_machine_thief import as_request, crafted_login

from authsvc.codes import code_hash
from authsvc.errors import Refused
from authsvc.services import administration
from authsvc.services.context import SignedRequest
from authsvc.store.codes import insert_code
from device_sdk import Device
from device_sdk.errors import (
    DeviceRestored,
    EnrolmentRefused,
    NoMatch,
    NotActive,
    ServerRefused,
    StaleAfterRecovery,
    TransportError,
)
from device_sdk.transport import RequestKey
from device_sdk.vault.keys import KeyFile
from mpc.login.enrolment_messages import RecoveryFinish
from mpc.login.messages import Message3


def accused(phone: Phone, server: Server) -> None:
    """A thief's bent proof quarantines the enrolment; the phone knows nothing of it."""
    index = max(phone.state.ot_index, server.enrolment(phone.id).last_index) + 1
    thief = crafted_login(phone, ot_index=index, sign_count=index, bent_column=0)
    assert server.serve(thief).code == "quarantined"


def test_lift_recover_and_sign_in(phone: Phone, server: Server) -> None:
    """The passkeys survive: same keys, same template, new base OTs and a new request key."""
    accused(phone, server)
    old_key, old_base_ot = phone.state.request_key, phone.state.base_ot_id
    with pytest.raises(NotActive):
        phone.get()

    phone.device.recover(server.lift(phone.id))

    assert phone.state.request_key != old_key and phone.state.base_ot_id != old_base_ot
    assert phone.state.recovery is None
    assert phone.get() > 0 and phone.confirm()
    with pytest.raises(NoMatch):
        phone.get(STRANGER)
    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason, row.next_signing_key, row.pending_base_ot_id) == ("active", None, None, None)


def test_before_the_operator_lifts_no_code_helps(phone: Phone, server: Server) -> None:
    """The decision is a person's; and an enrolment that is not quarantined has nothing to lift."""
    with pytest.raises(Refused, match="wrong_state"):
        server.lift(phone.id)
    accused(phone, server)

    with pytest.raises(NotActive):
        phone.device.recover("00000-00000-00000-00000")
    assert server.enrolment(phone.id).status == "quarantined"


def test_after_recovery_a_copy_of_the_old_vault_cannot_even_sign_a_request(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """Its request key is replaced: nothing of it reaches a computation, and it can accuse nobody any more."""
    accused(phone, server)
    phone.device.recover(server.lift(phone.id))
    before = server.dump()

    for face in (FACE, STRANGER):
        with pytest.raises(ServerRefused) as caught:
            clone.get(face)
        assert caught.value.code == "unauthenticated"
    bent = crafted_login(clone, ot_index=50, sign_count=50, bent_column=0)
    assert server.serve(bent).code == "unauthenticated"

    assert server.dump() == before
    assert phone.get() > 0


def test_a_copy_with_the_stolen_code_and_the_phone_race_and_one_of_them_recovers(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """A code is good once. Whoever comes second is refused, and the user learns that somebody was first."""
    accused(phone, server)
    code = server.lift(phone.id)

    phone.device.recover(code)

    with pytest.raises((ServerRefused, NotActive, EnrolmentRefused)):
        clone.device.recover(code)
    assert phone.get() > 0


def test_a_phone_that_a_copy_overtook_is_told_to_enrol_anew(phone: Phone, clone: Phone, server: Server) -> None:
    """The copy's login was confirmed, so its shares are the current ones: no recovery brings the phone's back."""
    clone.get()
    assert clone.confirm()
    accused(clone, server)
    code = server.lift(phone.id)
    before = phone.state

    with pytest.raises(StaleAfterRecovery):
        phone.device.recover(code)

    assert phone.state.request_key == before.request_key and phone.state.recovery is None
    assert server.enrolment(phone.id).status == "recovering"  # the code is not spent by the attempt


def test_the_same_with_a_login_of_its_own_that_lost(phone: Phone, clone: Phone, server: Server) -> None:
    """The phone's token lost against the copy's. During recovery that is proof of the copy, told as such."""
    phone.get()
    theirs = phone.state.ot_index
    clone.get()  # of the same epoch
    assert clone.state.ot_index > theirs
    assert clone.confirm()
    accused(clone, server)
    code = server.lift(phone.id)

    with pytest.raises(StaleAfterRecovery):
        phone.device.recover(code)

    assert phone.state.recovery is None
    assert server.enrolment(phone.id).status_reason == "clone_proved"


def test_an_outstanding_confirmation_is_settled_on_the_way(phone: Phone, server: Server) -> None:
    """A login that the app has used must not be forgotten because a thief knocked in between."""
    phone.get()
    outstanding = phone.state.next
    assert outstanding is not None
    accused(phone, server)

    phone.device.recover(server.lift(phone.id))

    assert phone.state.next is None
    assert phone.state.template == outstanding.template
    assert phone.state.epoch == server.enrolment(phone.id).epoch
    confirmed = [row.ot_index for row in server.logins(phone.id) if row.state == "confirmed"]
    assert outstanding.confirmation.ot_index in confirmed
    assert phone.get() > 0 and phone.confirm()


def test_a_confirmation_that_arrived_before_the_quarantine_is_settled_too(phone: Phone, server: Server) -> None:
    """Only its acknowledgement was lost: the token is the last confirmed one, and both go on from there."""
    phone.get()
    phone.network.plan(CONFIRMATIONS, lose_answer)
    with pytest.raises(TransportError):
        phone.confirm()
    accused(phone, server)

    phone.device.recover(server.lift(phone.id))

    assert phone.state.next is None
    assert phone.get() > 0 and phone.confirm()


def test_a_login_that_a_restored_server_never_heard_of_is_dropped_during_recovery(phone: Phone, server: Server) -> None:
    """Row D6 on the way of a recovery: the older shares hold on both sides."""
    server.close()
    restore = snapshot(server.path.parent)
    phone.get()
    server.close()
    restore()
    accused(phone, server)

    phone.device.recover(server.lift(phone.id))

    assert phone.state.next is None
    assert phone.get() > 0 and phone.confirm()


@pytest.mark.parametrize("path", [RECOVERIES, RECOVERIES_FINISH])
@pytest.mark.parametrize("fate", [lose_request, lose_answer])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_lost_message_of_a_recovery_is_said_again_with_the_same_code(
    phone: Phone, server: Server, path: str, fate: Fate, restarted: bool
) -> None:
    """The code is spent by the second request's commit; everything before and after may be repeated."""
    phone.get()
    accused(phone, server)
    code = server.lift(phone.id)
    phone.network.plan(path, fate)
    with pytest.raises(TransportError):
        phone.device.recover(code)
    if restarted:
        phone.restart()

    phone.device.recover(code)

    assert phone.get() > 0 and phone.confirm()
    assert server.events(phone.id).count("recovered") == 1


@pytest.mark.parametrize(
    ("path", "fate"),
    [
        (RECOVERIES, deliver_twice),
        (RECOVERIES, overtaken_by_its_copy),
        (RECOVERIES_FINISH, deliver_twice),
        (RECOVERIES_FINISH, overtaken_by_its_copy),
    ],
)
def test_a_repeated_message_of_a_recovery_does_no_harm(phone: Phone, server: Server, path: str, fate: Fate) -> None:
    """Networks repeat, and the same answer twice must mean the same."""
    accused(phone, server)
    phone.network.plan(path, fate)

    phone.device.recover(server.lift(phone.id))

    assert phone.get() > 0 and phone.confirm()
    assert server.events(phone.id).count("recovered") == 1


def test_an_answer_to_an_offer_that_was_replaced_is_refused_and_the_same_call_begins_again(
    phone: Phone, server: Server
) -> None:
    """The first request arrived twice and the phone answers the first offer: base keys of two runs never mix."""
    phone.get()
    accused(phone, server)
    phone.network.plan(RECOVERIES, deliver_twice)

    phone.device.recover(server.lift(phone.id))

    codes = [answer.code for request, answer in phone.network.answers if request.path == RECOVERIES_FINISH]
    assert len(codes) == 2 and codes[0] in ("wrong_state", "unauthenticated") and codes[1] == "ok"
    assert phone.get() > 0 and phone.confirm()
    assert server.events(phone.id).count("recovered") == 1


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("other_code", ["00000-00000-00000-00000", "", "not a code"])
def test_a_recovery_that_only_the_server_knows_to_be_done_is_completed_whatever_is_typed(
    phone: Phone, server: Server, other_code: str, restarted: bool
) -> None:
    """The code is spent and the old key is gone: the stored second request, said again, is the only way home."""
    accused(phone, server)
    phone.network.plan(RECOVERIES_FINISH, lose_answer)
    with pytest.raises(TransportError):
        phone.device.recover(server.lift(phone.id))
    assert server.enrolment(phone.id).status == "active"
    assert phone.state.recovery is not None
    if restarted:
        phone.restart()

    phone.device.recover(other_code)

    assert phone.state.recovery is None
    assert phone.get() > 0 and phone.confirm()
    assert server.events(phone.id).count("recovered") == 1


def recovered_at_the_server_only(phone: Phone, server: Server) -> None:
    accused(phone, server)
    phone.network.plan(RECOVERIES_FINISH, lose_answer)
    with pytest.raises(TransportError):
        phone.device.recover(server.lift(phone.id))


def test_a_wrong_clock_while_completing_a_recovery_does_not_lose_the_new_key(phone: Phone, server: Server) -> None:
    """A refusal for another reason than a replaced offer must not make the phone forget the only key that counts."""
    recovered_at_the_server_only(phone, server)
    right = phone.network.clock
    phone.network.clock = Clock(right.now + 3600)
    with pytest.raises(ServerRefused):
        phone.device.recover("any code")

    phone.network.clock = right
    phone.device.recover("any code")

    assert phone.get() > 0 and phone.confirm()


def test_a_second_code_from_the_operator_does_not_lose_the_new_key(phone: Phone, server: Server) -> None:
    """The user says that it failed, the operator gives another code: the server knows the new key only by then."""
    recovered_at_the_server_only(phone, server)
    code = administration.lift(server.ctx, phone.id, also_active=True).code

    phone.device.recover(code)

    assert phone.get() > 0 and phone.confirm()
    assert server.events(phone.id).count("recovered") == 2


def test_a_code_of_another_enrolment_is_refused(
    phone: Phone, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A code is bound to the person it was made for."""
    folder = tmp_path_factory.mktemp("other")
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=administration.issue_code(server.ctx, label="Bob").code,
        captures=[FACE] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, server.clock, server.profile_document),
    ).close()
    (folder / "accounts.json").write_text("{}")
    other = Phone(folder, server)
    other.create("bob")
    assert other.confirm()
    accused(phone, server)
    accused(other, server)
    code, code_of_other = server.lift(phone.id), server.lift(other.id)

    for wrong in (code_of_other, administration.issue_code(server.ctx, label="Eve").code, "ABCDE"):
        with pytest.raises(EnrolmentRefused):
            phone.device.recover(wrong)
    phone.device.recover(code)
    other.device.recover(code_of_other)

    assert phone.get() > 0 and other.get() > 0
    other.crash()


def test_the_second_request_may_not_spend_somebody_elses_code(phone: Phone, server: Server) -> None:
    """The code that is spent at the end is checked on its own, not taken for the one shown at the beginning."""
    accused(phone, server)
    code = server.lift(phone.id)
    of_another = "WR0NG-C0DE0-F0R0T-HER00"
    with server.store.write() as conn:
        now = server.clock()
        hashed = code_hash(of_another)
        assert hashed is not None
        insert_code(
            conn,
            code_hash=hashed,
            purpose="recover",
            enrolment_id=b"another enrolled",
            label="Bob",
            created_at=now,
            expires_at=now + 60,
        )

    def with_another_code(network: Network, request: SignedRequest) -> Answer:
        pending = phone.state.recovery
        assert pending is not None
        lie = replace(RecoveryFinish.decode(request.body), code=of_another).encode()
        new_key = RequestKey.from_scalar(pending.request_key)
        return server.serve(signed(request.path, lie, new_key, to_base64(phone.id), server.clock()))

    phone.network.plan(RECOVERIES_FINISH, *[with_another_code] * 2)  # the phone begins once more by itself
    with pytest.raises(EnrolmentRefused):
        phone.device.recover(code)
    assert server.enrolment(phone.id).status == "recovering"
    phone.device.recover(code)

    assert phone.get() > 0


def test_a_withdrawn_and_an_expired_code_are_refused(phone: Phone, server: Server, clock: Clock) -> None:
    """Lifting again takes the code before out of the world; time does too."""
    accused(phone, server)
    first = server.lift(phone.id)
    second = server.lift(phone.id)
    with pytest.raises(EnrolmentRefused):
        phone.device.recover(first)
    clock.advance(server.ctx.policy.limits.recovery_code_lifetime_s + 1)
    with pytest.raises(EnrolmentRefused):
        phone.device.recover(second)

    phone.device.recover(server.lift(phone.id))

    assert phone.get() > 0


def test_delta_of_before_is_never_used_again(phone: Phone, clone: Phone, server: Server) -> None:
    """What a failed proof told about Δ is worth nothing once Δ is gone: row, keys and id are new."""
    base_ot_before = server.enrolment(phone.id).sealed_base_ot
    accused(phone, server)
    burnt = server.enrolment(phone.id)
    phone.device.recover(server.lift(phone.id))
    fresh = server.enrolment(phone.id)

    assert burnt.sealed_base_ot is None
    assert fresh.sealed_base_ot not in (None, base_ot_before)
    assert phone.state.base_keys != clone.state.base_keys
    # A message under the old base OT, signed with the new key, is from another world.
    old = opened_message(crafted_login(clone, ot_index=90, sign_count=90)).encode()
    assert server.serve(as_request(phone, old, LOGINS)).code == "base_ot_changed"


def test_an_index_that_the_thief_burnt_does_not_mark_the_phone_after_recovery(phone: Phone, server: Server) -> None:
    """The device continues above the highest index the server has seen, or row D7 would stop it for ever."""
    far = crafted_login(phone, ot_index=1000, sign_count=1000, bent_column=0)
    assert server.serve(far).code == "quarantined"

    phone.device.recover(server.lift(phone.id))

    assert phone.get() > 0
    assert phone.state.ot_index == 1001


def test_a_late_message_3_while_quarantined_or_recovering_changes_nothing(phone: Phone, server: Server) -> None:
    """Outside of the recovery's own request an enrolment that is not active takes no confirmations."""
    phone.get()
    outstanding = phone.state.next
    assert outstanding is not None
    said = as_request(phone, Message3(phone.id, outstanding.confirmation).encode(), CONFIRMATIONS)
    accused(phone, server)
    quarantined = server.dump()
    assert server.serve(said).code == "not_active"
    assert server.dump() == quarantined

    code = server.lift(phone.id)
    recovering = server.dump()
    assert server.serve(said).code == "not_active"
    assert server.dump() == recovering
    phone.device.recover(code)
    assert phone.get() > 0


def test_a_recovery_survives_a_change_of_worker(phone: Phone, folder: Path, clock: Clock, server: Server) -> None:
    """The receiver's state between the two requests is in the database, sealed."""
    accused(phone, server)
    code = server.lift(phone.id)
    phone.network.plan(RECOVERIES_FINISH, lose_request)
    with pytest.raises(TransportError):
        phone.device.recover(code)
    server.close()
    worker = Server(folder, clock)
    phone.network.serve = worker.serve

    phone.device.recover(code)

    assert phone.get() > 0
    worker.close()


# ---- what a copy has used up ---------------------------------------------------------------------


@pytest.mark.parametrize("raised_to", [2, 1 + 65_536])
def test_a_counter_that_the_thief_raised_does_not_stop_the_phone_after_recovery(
    phone: Phone, clone: Phone, server: Server, raised_to: int
) -> None:
    """One accepted login of a copy moves the counter; a recovery brings it to the phone along with the index."""
    assert server.serve(crafted_login(clone, ot_index=2, sign_count=raised_to)).code == "ok"
    accused(phone, server)

    phone.device.recover(server.lift(phone.id))

    assert phone.state.credentials[0].sign_count == raised_to
    assert phone.get() == raised_to + 1
    assert phone.confirm()


def test_a_counter_that_the_thief_raised_stops_the_phone_after_one_refused_attempt(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """No attempt of an honest device explains that counter: trying on would only use the user's budget up."""
    assert server.serve(crafted_login(clone, ot_index=2, sign_count=50)).code == "ok"
    counted = server.enrolment(phone.id).template_attempts

    for _ in range(2):
        with pytest.raises(DeviceRestored):
            phone.get()
    phone.restart()
    with pytest.raises(DeviceRestored):
        phone.get()

    assert phone.state.overtaken
    # The copy's index 2 is skipped, uncounted, as if a duplicate had been faster; then one attempt, and no more.
    assert [answer.code for _, answer in phone.network.answers] == ["stale_index", "bad_authenticator_data"]
    row = server.enrolment(phone.id)
    assert (row.status, row.template_attempts) == ("active", counted + 1)
    phone.device.recover(administration.lift(server.ctx, phone.id, also_active=True).code)
    assert phone.get() == 51 and phone.confirm()


def test_an_operator_can_bring_a_device_of_row_d7_back(phone: Phone, clone: Phone, server: Server) -> None:
    """The fault sends the user to the operator for a recovery; the operator says that he means one in service."""
    for _ in range(2):
        with pytest.raises(NoMatch):
            clone.get(STRANGER)
    with pytest.raises(DeviceRestored):
        phone.get()
    with pytest.raises(Refused, match="wrong_state"):
        server.lift(phone.id)

    code = administration.lift(server.ctx, phone.id, also_active=True).code
    with pytest.raises(DeviceRestored):  # until it has recovered
        phone.get()
    phone.device.recover(code)

    assert not phone.state.overtaken
    assert phone.get() > 0 and phone.confirm()
    with pytest.raises(ServerRefused) as caught:
        clone.get()
    assert caught.value.code == "unauthenticated"


def test_a_device_of_row_d7_whose_copy_was_confirmed_must_enrol_anew(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """The operator cannot tell the copies apart; the epochs can."""
    clone.get()
    clone.get()
    with pytest.raises(DeviceRestored):
        phone.get()
    code = administration.lift(server.ctx, phone.id, also_active=True).code

    with pytest.raises(StaleAfterRecovery):
        phone.device.recover(code)

    assert phone.state.overtaken and phone.state.recovery is None
