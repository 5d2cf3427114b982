"""A copy that was confirmed so often that the token it beat is forgotten is revealed all the same."""

from __future__ import annotations

import pytest
from state_machine_harness import LOGINS, Phone, Server, lose_request, opened_message

from device_sdk.errors import DeviceRestored, NotActive, Quarantined, TransportError


def confirmed_twice(clone: Phone) -> None:
    for _ in range(2):
        clone.get()
        assert clone.confirm()


def test_the_originals_next_login_reveals_a_copy_that_confirmed_twice(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """Row C4 alone would answer "unknown" and leave the copy in service; under a fresh index it goes on to L4."""
    phone.get()
    confirmed_twice(clone)
    assert "void" not in server.states(phone.id)  # the token of the phone's login is forgotten
    phone.network.plan(LOGINS, lose_request, lose_request)
    for _ in range(2):
        with pytest.raises(TransportError):
            phone.get()

    with pytest.raises(Quarantined):
        phone.get()

    statement = opened_message(phone.network.sent(LOGINS)[-1]).statement
    assert statement.confirmation is not None
    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason, row.sealed_base_ot) == ("quarantined", "clone_suspected", None)
    assert (row.last_index, server.states(phone.id)[-1]) == (statement.ot_index, "failed")
    with pytest.raises(NotActive):
        clone.get()


def test_a_copy_that_is_ahead_in_its_indices_stops_the_original(phone: Phone, clone: Phone, server: Server) -> None:
    """A stale index is no evidence for the server, which hears late copies all the time; the phone itself knows."""
    phone.get()
    confirmed_twice(clone)

    with pytest.raises(DeviceRestored):
        phone.get()

    assert phone.state.overtaken
    assert server.enrolment(phone.id).status == "active"


def test_a_late_copy_of_an_honest_message_with_an_old_confirmation_accuses_nobody(phone: Phone, server: Server) -> None:
    """It carries a token that is forgotten and speaks of an epoch that is over, but under an index that is used."""
    phone.get()
    phone.get()
    late = phone.network.sent(LOGINS)[-1]
    assert opened_message(late).statement.confirmation is not None
    assert phone.confirm()
    phone.get()
    assert phone.confirm()
    before = server.dump()

    answers = [server.serve(late) for _ in range(2)]

    assert [answer.code for answer in answers] == ["stale_index"] * 2
    assert server.dump() == before
    assert server.enrolment(phone.id).status == "active"
    assert phone.get() > 0 and phone.confirm()
