"""The last answer of a recovery is lost: the server knows the phone by a key that is only pending there."""

from __future__ import annotations

import pytest
from state_machine_harness import (
    RECOVERIES,
    RECOVERIES_FINISH,
    Clock,
    Phone,
    Server,
    deliver_twice,
    lose_answer,
    lose_request,
)

from authsvc.services import administration
from device_sdk.errors import ServerRefused, TandemError, TransportError


def lifted(phone: Phone, server: Server) -> str:
    """A recovery code, as an operator gives it to a phone that is in service."""
    return administration.lift(server.ctx, phone.id, also_active=True).code


def done_at_the_server_only(phone: Phone, server: Server) -> str:
    """The recovery is committed there, and the phone has not heard of it. The code, which is spent."""
    code = lifted(phone, server)
    phone.network.plan(RECOVERIES_FINISH, lose_answer)
    with pytest.raises(TransportError):
        phone.device.recover(code)
    assert server.enrolment(phone.id).status == "active"
    assert phone.state.recovery is not None
    return code


def answers(phone: Phone, path: str) -> list[str]:
    return [answer.code for request, answer in phone.network.answers if request.path == path]


def works(phone: Phone, server: Server) -> None:
    assert phone.get() > 0 and phone.confirm()
    assert phone.state.recovery is None
    assert phone.request_key.public_point() == server.enrolment(phone.id).signing_key
    assert phone.state.base_ot_id == server.enrolment(phone.id).base_ot_id


@pytest.mark.parametrize("restarted", [False, True])
def test_the_next_login_finishes_it_by_itself(phone: Phone, server: Server, restarted: bool) -> None:
    """Nobody who just wants to sign in should have to type the code again."""
    old_key = phone.state.request_key
    done_at_the_server_only(phone, server)
    pending = phone.state.recovery
    assert pending is not None and phone.state.request_key == old_key
    if restarted:
        phone.restart()

    works(phone, server)

    assert phone.state.request_key == pending.request_key
    assert server.events(phone.id).count("recovered") == 1


def test_the_next_registration_finishes_it_too(phone: Phone, server: Server) -> None:
    """Every ceremony begins by it, not the login alone."""
    done_at_the_server_only(phone, server)

    credential_id = phone.create("grace")

    assert phone.state.recovery is None and phone.confirm()
    assert phone.get(credential_id=credential_id) > 0 and phone.confirm()
    works(phone, server)


def test_it_is_asked_for_once(phone: Phone, server: Server) -> None:
    """A recovery that is finished costs later logins nothing."""
    done_at_the_server_only(phone, server)
    works(phone, server)
    asked = len(phone.network.sent(RECOVERIES_FINISH))

    works(phone, server)

    assert len(phone.network.sent(RECOVERIES_FINISH)) == asked == 2


def test_a_login_that_cannot_finish_it_throws_nothing_away(phone: Phone, server: Server) -> None:
    """Answers are lost again and again; the pending key is the only one that the server accepts."""
    done_at_the_server_only(phone, server)
    pending = phone.state.recovery
    for fate in (lose_request, lose_answer):
        phone.network.plan(RECOVERIES_FINISH, fate)
        with pytest.raises(TandemError):
            phone.get()
        assert phone.state.recovery == pending

    works(phone, server)


@pytest.mark.parametrize("restarted", [False, True])
def test_lifted_again_meanwhile_a_new_code_begins_with_the_pending_key(
    phone: Phone, server: Server, restarted: bool
) -> None:
    """What an operator does on hearing that it failed. The old key is refused, the pending one is known."""
    done_at_the_server_only(phone, server)
    pending = phone.state.recovery
    assert pending is not None
    code = lifted(phone, server)
    if restarted:
        phone.restart()
    phone.network.answers.clear()

    phone.device.recover(code)

    assert answers(phone, RECOVERIES) == ["unauthenticated", "ok"]
    assert phone.state.request_key != pending.request_key
    works(phone, server)
    assert server.events(phone.id).count("recovered") == 2


def test_a_login_while_lifted_again_leaves_the_way_back_open(phone: Phone, server: Server) -> None:
    """The login is refused, for the enrolment is not in service, and so is the finishing of what is done."""
    done_at_the_server_only(phone, server)
    pending = phone.state.recovery
    code = lifted(phone, server)

    with pytest.raises(TandemError):
        phone.get()

    assert phone.state.recovery == pending
    phone.device.recover(code)
    works(phone, server)


@pytest.mark.parametrize("path", [RECOVERIES, RECOVERIES_FINISH])
@pytest.mark.parametrize("restarted", [False, True])
def test_lifted_again_and_an_answer_lost_again(phone: Phone, server: Server, path: str, restarted: bool) -> None:
    """The chain goes on: old key, pending key, and one more; each step may be repeated with the newer code."""
    done_at_the_server_only(phone, server)
    code = lifted(phone, server)
    if path == RECOVERIES:
        phone.network.plan(RECOVERIES, lambda network, request: network.serve(request), lose_answer)
    else:
        # The first finish is the old offer's, which the server refuses; the second is the new one's.
        phone.network.plan(RECOVERIES_FINISH, lambda network, request: network.serve(request), lose_answer)
    with pytest.raises(TransportError):
        phone.device.recover(code)
    if restarted:
        phone.restart()

    phone.device.recover(code)

    works(phone, server)
    assert server.events(phone.id).count("recovered") == 2


@pytest.mark.parametrize("off_by_s", [-120.0, 3600.0])
@pytest.mark.parametrize("fresh_code", [False, True])
def test_refusals_because_of_a_wrong_clock_throw_nothing_away(
    phone: Phone, server: Server, off_by_s: float, fresh_code: bool
) -> None:
    """The request is refused like one of an unknown key. Once the clock is right, any of both codes helps."""
    code = done_at_the_server_only(phone, server)
    pending = phone.state.recovery
    right = phone.network.clock
    phone.network.clock = Clock(right.now + off_by_s)
    for _ in range(2):
        with pytest.raises(ServerRefused) as caught:
            phone.device.recover(code)
        assert caught.value.code == "unauthenticated"
        assert phone.state.recovery == pending
    with pytest.raises(ServerRefused):
        phone.get()
    assert phone.state.recovery == pending
    phone.network.clock = right

    phone.device.recover(lifted(phone, server) if fresh_code else code)

    works(phone, server)


def test_the_first_of_two_duplicated_offers_recovers_in_one_call(phone: Phone, server: Server) -> None:
    """The server holds the second offer, the phone answers the first: refused, begun anew, done."""
    phone.network.plan(RECOVERIES, deliver_twice)

    phone.device.recover(lifted(phone, server))

    assert answers(phone, RECOVERIES_FINISH)[1:] == ["ok"]
    works(phone, server)
    assert server.events(phone.id).count("recovered") == 1


def test_the_first_of_two_duplicated_offers_and_then_no_network(phone: Phone, server: Server) -> None:
    """What is pending is of no use here, and is kept all the same until another offer replaces it."""
    code = lifted(phone, server)
    phone.network.plan(RECOVERIES, deliver_twice, lose_request)
    with pytest.raises(TransportError):
        phone.device.recover(code)
    useless = phone.state.recovery
    assert useless is not None
    phone.restart()

    phone.device.recover(code)

    works(phone, server)
    assert server.enrolment(phone.id).base_ot_id != useless.base_ot_id
