"""Rows C1–C4, L1–L8 and S1: the first that fits is written, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_databases import impatient
from state_machine_harness import (
    CONFIRMATIONS,
    LOGINS,
    NO_LIMITS,
    PROFILE,
    RP_ID,
    Answer,
    Clock,
    Phone,
    Server,
    lose_answer,
    opened_message,
    policy,
    restated,
    with_body,
)
from state_machine_thief import as_request, crafted_login, started_login

from authsvc.services import administration
from authsvc.services.context import SignedRequest
from device_sdk.errors import NotActive, TransportError
from mpc.login.authenticator_data import assertion_data
from mpc.login.device_side import Match
from mpc.login.messages import Confirmation, Message1, Message3


def next_login(phone: Phone, **changes: object) -> SignedRequest:
    """What the phone would send next, or the same with a lie in it."""
    counter = phone.state.credentials[0].sign_count
    values = {"ot_index": phone.state.ot_index + 1, "sign_count": counter + 1, **changes}
    return crafted_login(phone, **values)  # type: ignore[arg-type]


# ---- confirmations -------------------------------------------------------------------------------


def test_c1_a_known_token_is_acknowledged_again_and_writes_nothing(phone: Phone, server: Server) -> None:
    """The acknowledgement was lost; refusing now would strand a device that did everything right."""
    phone.get()
    assert phone.confirm()
    said = phone.network.sent(CONFIRMATIONS)[-1]
    before = server.dump()

    answers = [server.serve(said) for _ in range(3)]

    assert [answer.code for answer in answers] == ["ok"] * 3
    assert server.dump() == before


def test_c1_is_kept_for_ever(phone: Phone, server: Server, clock: Clock) -> None:
    """A phone may lie in a drawer for a year between the lost acknowledgement and its next word."""
    phone.get()
    phone.network.plan(CONFIRMATIONS, lose_answer)
    with pytest.raises(TransportError):
        phone.confirm()
    clock.advance(400 * 86_400)

    assert phone.confirm()
    assert phone.get() > 0


def test_c2_moves_epoch_and_shares_and_overwrites_the_old_ones(phone: Phone, server: Server) -> None:
    """From the commit on, a share of the older epoch is useless with what this server holds."""
    before, share_before = server.enrolment(phone.id), server.credentials(phone.id)[0].sealed_share
    phone.get()
    pending = server.enrolment(phone.id)
    assert phone.confirm()
    after = server.enrolment(phone.id)

    assert (pending.epoch, pending.sealed_template) == (before.epoch, before.sealed_template)
    assert pending.consecutive_failures == 1
    assert after.epoch == before.epoch + 1
    assert after.sealed_template != before.sealed_template
    assert server.credentials(phone.id)[0].sealed_share != share_before
    assert after.confirmed_index == server.logins(phone.id)[-1].ot_index
    assert after.consecutive_failures == 0
    last = server.logins(phone.id)[-1]
    assert (last.state, last.token_hash, last.sealed_rho) == ("confirmed", None, None)


def test_c2_activates_a_provisional_credential(phone: Phone, server: Server) -> None:
    """Only a device that opened an answer has proved its share; until then the credential signs nothing else."""
    credential_id = phone.create("bob")

    def status() -> str:
        return next(row.status for row in server.credentials(phone.id) if row.id == credential_id)

    before = status()
    assert phone.confirm()

    assert (before, status()) == ("provisional", "active")


def test_c2_voids_the_other_pending_logins(phone: Phone, server: Server) -> None:
    """At most one accepted login of an epoch counts; the tokens of the others become evidence."""
    phone.network.plan(LOGINS, lose_answer)
    with pytest.raises(TransportError):
        phone.get()
    phone.get()
    assert phone.confirm()

    assert server.states(phone.id)[-2:] == ["void", "confirmed"]
    assert server.logins(phone.id)[-2].sealed_rho is None
    assert server.logins(phone.id)[-2].token_hash is not None


def test_c3_two_accepted_logins_of_one_epoch_prove_a_clone(phone: Phone, clone: Phone, server: Server) -> None:
    """One device never has two tokens of one epoch in hand; two copies do, and the second to speak shows it."""
    phone.get()
    body_of_clone = started_login(clone.state, ot_index=phone.state.ot_index + 1, sign_count=9)
    answer = server.serve(as_request(clone, body_of_clone.message_1))
    stolen = body_of_clone.finish(answer.body)
    assert isinstance(stolen, Match)
    assert phone.confirm()

    said = Message3(clone.id, stolen.confirmation)
    refused = server.serve(as_request(clone, said.encode(), CONFIRMATIONS))

    assert (refused.status, refused.code) == (403, "quarantined")
    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason, row.sealed_base_ot) == ("quarantined", "clone_proved", None)
    with pytest.raises(NotActive):
        phone.get()


def test_c4_an_unknown_token_learns_the_epoch_and_writes_nothing(phone: Phone, server: Server) -> None:
    """The device compares the epoch with its own before it drops anything."""
    before = server.dump()
    said = Message3(phone.id, Confirmation(phone.state.ot_index, b"?" * 32))

    refused = server.serve(as_request(phone, said.encode(), CONFIRMATIONS))

    assert (refused.status, refused.code) == (409, "unknown_login")
    assert refused.problem["epoch"] == server.enrolment(phone.id).epoch
    assert server.dump() == before


def test_c4_a_right_token_under_a_wrong_index_is_unknown(phone: Phone, server: Server) -> None:
    """Token and index are one statement; half of it right is not right."""
    phone.get()
    outstanding = phone.state.next
    assert outstanding is not None
    before = server.dump()
    said = Message3(phone.id, replace(outstanding.confirmation, ot_index=outstanding.confirmation.ot_index + 1))

    assert server.serve(as_request(phone, said.encode(), CONFIRMATIONS)).code == "unknown_login"
    assert server.dump() == before
    assert phone.confirm()


# ---- message 1: refusals that write nothing ------------------------------------------------------


def _quarantined(server: Server, phone: Phone) -> None:
    assert server.serve(next_login(phone, epoch=0)).code == "quarantined"


def _revoked(server: Server, phone: Phone) -> None:
    administration.revoke_enrolment(server.ctx, phone.id)


def _credential_revoked(server: Server, phone: Phone) -> None:
    administration.revoke_credential(server.ctx, phone.state.credentials[0].credential_id)


@pytest.mark.parametrize(
    ("make", "code"),
    [(_quarantined, "not_active"), (_revoked, "not_active"), (_credential_revoked, "credential_not_usable")],
)
def test_l1_what_may_not_be_used_is_refused_and_writes_nothing(
    phone: Phone, server: Server, make: Callable[[Server, Phone], None], code: str
) -> None:
    """Quarantined and revoked look alike to a stranger, and an attempt at them costs the user nothing."""
    make(server, phone)
    before = server.dump()

    refused = server.serve(next_login(phone, ot_index=phone.state.ot_index + 2))

    assert (refused.status, refused.code) == (403, code)
    assert server.dump() == before


def test_l1_a_provisional_credential_answers_no_get_and_an_active_one_no_create(phone: Phone, server: Server) -> None:
    """Otherwise a half-registered key could sign in, or a login could pass for a registration."""
    phone.create("bob")
    message_of_create = opened_message(phone.network.sent(LOGINS)[-1])
    provisional = phone.state.credentials[-1].credential_id
    before = server.dump()

    as_get = server.serve(next_login(phone, credential_id=provisional))
    active = phone.state.credentials[0].credential_id
    lie = restated(message_of_create, credential_id=active, ot_index=phone.state.ot_index + 1)
    as_create = server.serve(as_request(phone, lie))

    assert (as_get.code, as_create.code) == ("credential_not_usable",) * 2
    assert server.dump() == before


@pytest.mark.parametrize("behind", [0, 1])
def test_l2_a_consumed_index_is_told_and_writes_nothing(phone: Phone, server: Server, behind: int) -> None:
    """A late or repeated message is never evidence of anything: networks repeat."""
    phone.get()
    assert phone.confirm()
    before = server.dump()

    refused = server.serve(next_login(phone, ot_index=phone.state.ot_index - behind))

    assert (refused.status, refused.code) == (409, "stale_index")
    assert refused.problem["last_index"] == phone.state.ot_index
    assert server.dump() == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ot_index": 2**20 + 2}, "index_ahead"),
        ({"epoch": 9}, "epoch_ahead"),
        ({"profile_digest": bytes(32)}, "profile_changed"),
        ({"base_ot_id": bytes(16)}, "base_ot_changed"),
    ],
)
def test_l3_a_message_from_another_world_is_refused_and_writes_nothing(
    phone: Phone, server: Server, change: dict[str, object], code: str
) -> None:
    """A restored server or a changed policy must not cost the honest device an attempt or its good name."""
    assert server.enrolment(phone.id).last_index == 1
    honest = next_login(phone)
    before = server.dump()

    refused = server.serve(with_body(honest, restated(opened_message(honest), **change), phone))

    assert (refused.status, refused.code) == (409, code)
    assert server.dump() == before


def test_l3_the_largest_permitted_step_is_accepted(phone: Phone, server: Server) -> None:
    """The bound is last + 2^20 itself: one less would strand the device that reached it."""
    assert server.serve(next_login(phone, ot_index=1 + 2**20)).code == "ok"


# ---- message 1: verdicts that are written --------------------------------------------------------


def caught(server: Server, phone: Phone, answer: Answer, index: int, reason: str) -> None:
    row, last = server.enrolment(phone.id), server.logins(phone.id)[-1]
    assert (answer.status, answer.code) == (403, "quarantined")
    assert (row.status, row.status_reason) == ("quarantined", reason)
    assert row.sealed_base_ot is None
    assert (row.last_index, last.ot_index, last.state) == (index, index, "failed")
    assert row.consecutive_failures == 1
    assert server.events(phone.id)[0] == "quarantined"


def test_l4_an_older_epoch_under_a_fresh_index_is_a_suspected_clone(phone: Phone, clone: Phone, server: Server) -> None:
    """The honest device confirmed and moved on; whoever still speaks of the epoch before is a copy."""
    phone.get()
    assert phone.confirm()
    index = phone.state.ot_index + 1

    answer = server.serve(next_login(clone, ot_index=index, sign_count=50))

    caught(server, phone, answer, index, "clone_suspected")


def test_l5_a_failed_ot_proof_burns_delta_and_quarantines(phone: Phone, server: Server) -> None:
    """Every failed proof is a guess at Δ; there is no second one."""
    honest = next_login(phone)
    message = opened_message(honest)
    wrong = replace(message, proof_x=bytes([message.proof_x[0] ^ 1]) + message.proof_x[1:])

    answer = server.serve(with_body(honest, wrong.encode(), phone))

    caught(server, phone, answer, message.statement.ot_index, "ot_proof_failed")


def test_l6_a_stale_share_is_caught_although_the_epoch_is_a_lie(phone: Phone, clone: Phone, server: Server) -> None:
    """A clone that claims the current epoch does not have its share: the tag says so before anything is sealed."""
    phone.get()
    assert phone.confirm()
    index = phone.state.ot_index + 1

    answer = server.serve(next_login(clone, ot_index=index, sign_count=50, epoch=phone.state.epoch))

    caught(server, phone, answer, index, "share_tag_failed")


@pytest.mark.parametrize(
    ("sign_count", "change"),
    [
        (1, None),
        (0, None),
        (1 + 65_536 + 1, None),
        (2**32 - 1, None),
        (2, lambda data: assertion_data("other.example", 2)),
        (2, lambda data: data[:32] + bytes([data[32] & ~0x04]) + data[33:]),
        (2, lambda data: data[:32] + bytes([data[32] | 0x08]) + data[33:]),
        (2, lambda data: data[:32] + bytes([data[32] | 0x40]) + data[33:]),
    ],
)
def test_l7_wrong_authenticator_data_is_counted_and_not_signed(
    phone: Phone, server: Server, sign_count: int, change: Callable[[bytes], bytes] | None
) -> None:
    """The server signs for what it checked itself: this relying party, a verified user, a rising counter."""
    assert phone.state.credentials[0].sign_count == 1
    data = change(assertion_data(RP_ID, sign_count)) if change else None

    answer = server.serve(next_login(phone, sign_count=sign_count, authenticator_data=data))

    row = server.enrolment(phone.id)
    assert (answer.status, answer.code) == (400, "bad_authenticator_data")
    assert (row.status, row.consecutive_failures) == ("active", 1)
    assert server.states(phone.id)[-1] == "failed"
    assert server.credentials(phone.id)[0].sign_count == 1


def test_l7_the_largest_permitted_counter_step_is_signed(phone: Phone, server: Server) -> None:
    """A device that lost many answers is behind by as many counts, and honest."""
    assert server.serve(next_login(phone, sign_count=1 + 65_536)).code == "ok"


def test_l8_a_good_login_is_counted_as_failed_until_it_is_confirmed(phone: Phone, server: Server) -> None:
    """The server cannot see whether the face matched; it must assume that it did not."""
    phone.get()

    row, last = server.enrolment(phone.id), server.logins(phone.id)[-1]
    assert (row.last_index, row.consecutive_failures, row.template_attempts) == (phone.state.ot_index, 1, 2)
    assert (last.state, last.confirmed_at) == ("pending", None)
    assert last.token_hash is not None and last.sealed_rho is not None
    assert server.credentials(phone.id)[0].sign_count == phone.state.credentials[0].sign_count


def test_l8_answers_after_the_commit_and_never_before(phone: Phone, folder: Path, clock: Clock, server: Server) -> None:
    """If the transaction cannot be made, nothing leaves: no circuit, and not whether the proof was right."""
    worker = Server(folder, clock)
    honest = next_login(phone)
    wrong = crafted_login(phone, ot_index=2, sign_count=2, bent_column=0)  # bit 0 of Δ is 1: this one fails
    before = server.dump()

    with server.store.write():  # another process holds the write lock for longer than anybody waits
        impatient(worker.store)
        answers = [worker.serve(honest), worker.serve(wrong)]
    worker.close()

    assert [(answer.status, answer.code) for answer in answers] == [(503, "unavailable")] * 2
    assert server.dump() == before
    assert phone.get() > 0


def test_s1_a_restart_between_answer_and_message_3_forgets_nothing(
    phone: Phone, folder: Path, clock: Clock, server: Server
) -> None:
    """Tokens and ρ are in the database, not in a worker: another worker after a restart confirms."""
    phone.get()
    server.close()
    worker = Server(folder, clock)
    phone.network.serve = worker.serve

    assert phone.confirm()
    assert worker.enrolment(phone.id).epoch == phone.state.epoch
    assert phone.get() > 0
    worker.close()


def test_l1_a_profile_that_is_no_longer_served_refuses_everybody_alike(
    phone: Phone, folder: Path, clock: Clock
) -> None:
    """Without its profile an enrolment has no decision rule, so there is nothing to run."""
    worker = Server(folder, clock, policy(replace(PROFILE, name="other-512"), NO_LIMITS))

    assert worker.serve(next_login(phone)).code == "not_active"
    worker.close()


def test_a_message_of_another_enrolment_is_refused_although_the_signature_is_good(phone: Phone, server: Server) -> None:
    """Whoever signs speaks for his own enrolment only."""
    honest = next_login(phone)
    lie = Message1.decode(restated(opened_message(honest), enrolment_id=b"x" * 16)).encode()
    before = server.dump()

    assert server.serve(with_body(honest, lie, phone)).code == "malformed"
    assert server.dump() == before
