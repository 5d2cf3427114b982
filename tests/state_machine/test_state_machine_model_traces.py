"""The counterexamples of the model checker, replayed.

The protocol's state machine was model-checked with one defect at a time. Each test here is the trace that the
checker printed for a defect (two of them: a trace written by hand, since the model's invariants do not mention it),
run against the real store and the real device: what went wrong in the defective machine must not go wrong here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from state_machine_harness import (
    CONFIRMATIONS,
    ENCODER,
    LOGINS,
    Answer,
    Clock,
    Fate,
    HeldLogin,
    Network,
    Phone,
    Server,
    deliver_twice,
    lose_answer,
    lose_request,
    opened_message,
    overtaken_by_its_copy,
)
from state_machine_thief import as_request, crafted_login, started_login

from authsvc.errors import Refused
from authsvc.services.context import SignedRequest
from device_sdk.device import Device
from device_sdk.errors import TransportError
from mpc.errors import Blame, ProtocolAbort
from mpc.garbling.evaluator import evaluate
from mpc.garbling.hashing import input_whitening, tables_bytes
from mpc.login.device_side import Match
from mpc.login.messages import Message1, Message2, Message3
from mpc.login.session import OutputKeys, exchange, output_tag, sealed_bytes, session_id
from mpc.ot.expansion import expand, stream_key
from mpc.primitives.bit_matrix import transpose_128
from mpc.primitives.rng import SeededRng


def user_goes_on(phone: Phone, server: Server) -> None:
    """No stranded or quarantined honest user; after a clean run one share each and nothing pending."""
    assert server.enrolment(phone.id).status == "active"
    assert phone.get() > 0
    assert phone.confirm()
    assert phone.state.next is None
    assert phone.state.epoch == server.enrolment(phone.id).epoch
    assert "pending" not in server.states(phone.id)


def test_epoch_first__message_1_repeated_after_its_confirmation_accuses_nobody(phone: Phone, server: Server) -> None:
    """Judging the epoch before the index would take the network's own copy for a clone."""
    phone.get()
    message_1 = phone.network.sent(LOGINS)[-1]
    assert phone.confirm()
    before = server.dump()

    assert server.serve(message_1).code == "stale_index"

    assert server.dump() == before
    user_goes_on(phone, server)


@pytest.mark.parametrize("fate", [lose_answer, deliver_twice, overtaken_by_its_copy])
def test_consumed_quarantines__a_copy_of_a_consumed_message_accuses_nobody(
    phone: Phone, server: Server, fate: Fate
) -> None:
    """The server crashed after its commit, and the network delivers the message once more."""
    phone.network.plan(LOGINS, fate)
    try:
        phone.get()
    except TransportError:
        assert server.serve(phone.network.sent(LOGINS)[-1]).code == "stale_index"

    user_goes_on(phone, server)


def test_token_volatile__a_restart_before_message_3_and_a_late_copy_of_it_accuse_nobody(
    phone: Phone, folder: Path, clock: Clock, server: Server
) -> None:
    """Tokens kept in memory would make the device fall back, and its own late message 3 would then accuse it."""
    phone.get()
    server.close()
    restarted = Server(folder, clock)
    phone.network.serve = restarted.serve
    phone.network.plan(CONFIRMATIONS, lose_answer)
    with pytest.raises(TransportError):
        phone.confirm()
    message_3 = phone.network.sent(CONFIRMATIONS)[-1]
    phone.get()
    assert phone.confirm()
    before = restarted.dump()

    answers = [restarted.serve(message_3) for _ in range(2)]

    assert {answer.code for answer in answers} == {"unknown_login"}
    assert restarted.dump() == before
    user_goes_on(phone, restarted)
    restarted.close()


def test_no_lastconf__a_lost_acknowledgement_does_not_strand_the_user(phone: Phone, server: Server) -> None:
    """The server is at the new epoch and the device does not know: the token itself must bring them together."""
    phone.get()
    phone.network.plan(CONFIRMATIONS, *[lose_answer] * 10)
    for _ in range(10):
        with pytest.raises(TransportError):
            phone.confirm()
    assert server.enrolment(phone.id).epoch == phone.state.epoch + 1

    user_goes_on(phone, server)


def test_toctou__a_clone_held_between_computation_and_commit_is_not_served(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """The clone's message was judged good; then the original confirmed. The commit must look again."""
    held = HeldLogin(server, crafted_login(clone, ot_index=5, sign_count=5))
    phone.get()
    assert phone.confirm()

    answer = held.release()

    assert (answer.status, answer.code) == (403, "quarantined")
    assert server.enrolment(phone.id).status_reason == "clone_suspected"
    assert server.states(phone.id)[-1] == "failed"


def test_toctou__a_clone_that_lies_about_its_epoch_is_caught_by_its_share(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """The recomputation runs on the new shares, and the tag of a stale share does not fit them."""
    epoch = clone.state.epoch
    phone.get()
    lie = crafted_login(clone, ot_index=5, sign_count=5, epoch=epoch + 1)
    with pytest.raises(Refused, match="epoch_ahead"):
        HeldLogin(server, lie)
    assert phone.confirm()

    assert server.serve(lie).code == "quarantined"
    assert server.enrolment(phone.id).status_reason == "share_tag_failed"


def test_toctou__two_copies_of_one_message_in_two_workers_accuse_nobody(
    phone: Phone, folder: Path, clock: Clock, server: Server
) -> None:
    """The slower worker holds a good verdict for an index that the faster one has consumed and had confirmed."""
    second_worker = Server(folder, clock)
    held: list[HeldLogin] = []

    def in_both(network: Network, request: SignedRequest) -> Answer:
        held.append(HeldLogin(second_worker, request))
        return server.serve(request)

    phone.get()
    phone.network.plan(LOGINS, in_both)
    phone.get()
    assert phone.confirm()
    before = server.dump()

    assert held[0].release().code == "stale_index"

    assert server.dump() == before
    user_goes_on(phone, server)
    second_worker.close()


@pytest.mark.parametrize("fate", [lose_request, lose_answer])
def test_no_write_ahead__a_crash_between_two_messages_gives_them_two_indices(
    phone: Phone, server: Server, fate: Fate
) -> None:
    """An index that is stored after sending is used twice: two messages under one OT stream."""
    phone.network.plan(LOGINS, fate)
    with pytest.raises(TransportError):
        phone.get()
    phone.restart()
    phone.get()

    first, second = (opened_message(request).statement for request in phone.network.sent(LOGINS))
    assert second.ot_index == first.ot_index + 1
    assert first.device_nonce != second.device_nonce
    user_goes_on(phone, server)


def test_count_after_send__the_attempt_is_in_the_database_when_the_answer_leaves(
    phone: Phone, folder: Path, clock: Clock, server: Server
) -> None:
    """Counting after sending gives a free look at a circuit to whoever makes the server crash in between."""
    other_worker = Server(folder, clock)
    counted: list[str] = []

    def look(network: Network, request: SignedRequest) -> Answer:
        answer = server.serve(request)
        counted.extend(other_worker.states(phone.id)[1:])
        return answer

    phone.network.plan(LOGINS, look)
    phone.get()

    assert counted == ["pending"]
    assert other_worker.enrolment(phone.id).consecutive_failures == 1
    other_worker.close()


def test_passive_clone__a_copy_that_reads_everything_cannot_follow_the_refreshes(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """With the copied base keys it finds the accept label, but the seal also takes the phone's ephemeral secret."""
    device_rng = SeededRng(b"the phone's randomness")
    phone.device = Device(phone.store, phone.network, ENCODER, rng=device_rng)
    phone.get()
    request, answer = phone.network.answers[-1]
    assert phone.confirm()

    label, sid, message_2 = _overheard(clone, opened_message(request), request.body, answer.body)
    ephemeral_of_phone = X25519PrivateKey.from_private_bytes(SeededRng(b"the phone's randomness").bytes(32))

    def opened_with(secret: X25519PrivateKey) -> bytes:
        keys = OutputKeys.derive(sid, label, exchange(secret, message_2.ephemeral, Blame.SERVER))
        return keys.open(message_2.sealed)[1]

    assert output_tag(1, sid, label) == message_2.accept_tag  # the copy does learn that the phone matched
    with pytest.raises(ProtocolAbort, match="sealed_box"):
        opened_with(X25519PrivateKey.generate())
    assert len(opened_with(ephemeral_of_phone)) == 32  # and the phone's secret is indeed all that it lacks

    followed = crafted_login(clone, ot_index=3, sign_count=3, epoch=phone.state.epoch)
    assert server.serve(followed).code == "quarantined"
    assert server.enrolment(phone.id).status_reason == "share_tag_failed"


def _overheard(clone: Phone, message: Message1, body: bytes, answer: bytes) -> tuple[bytes, bytes, Message2]:
    """(output label, session id, message 2) as a copied vault computes them from somebody else's messages."""
    state, statement = clone.state, message.statement
    profile, key = state.profile, state.credentials[0].key_share.key
    received = Message2.decode(answer, tables_bytes=tables_bytes(profile.circuit), sealed_bytes=sealed_bytes(key))
    sid = session_id(
        message_1=body,
        server_id=state.server_id,
        profile_digest=profile.digest,
        key=key,
        server_nonce=received.server_nonce,
        server_ephemeral=received.ephemeral,
    )
    stream = stream_key(statement.base_ot_id, statement.ot_index, statement.device_nonce)
    labels = transpose_128(expand(stream, state.base_keys.zeros, profile.input_bits))[: profile.input_bits]
    circuit = profile.circuit
    return evaluate(circuit, sid, received.tables, labels ^ input_whitening(sid, circuit.inputs)), sid, received


def test_single_pending__a_clone_cannot_push_the_phones_accepted_login_out(
    phone: Phone, clone: Phone, server: Server
) -> None:
    """With room for one pending login, the clone's would replace the phone's, whose released assertion then
    stays unconfirmed for ever."""
    phone.get()
    assert server.serve(crafted_login(clone, ot_index=9, sign_count=9)).code == "ok"
    assert server.states(phone.id)[-2:] == ["pending", "pending"]

    assert phone.confirm()

    assert server.states(phone.id)[-2:] == ["confirmed", "void"]
    assert phone.state.epoch == server.enrolment(phone.id).epoch


def test_no_void__the_token_of_the_losing_login_proves_the_clone(phone: Phone, clone: Phone, server: Server) -> None:
    """Forgetting the tokens that lost would answer the clone "unknown login" and let the theft go unnoticed."""
    theirs = started_login(clone.state, ot_index=2, sign_count=2)
    stolen = theirs.finish(server.serve(as_request(clone, theirs.message_1)).body)
    assert isinstance(stolen, Match)
    phone.get()  # its own index 2 is taken, so it goes on to 3 in the same call
    assert phone.confirm()
    assert server.states(phone.id)[-2:] == ["void", "confirmed"]

    said = Message3(clone.id, stolen.confirmation).encode()

    assert server.serve(as_request(clone, said, CONFIRMATIONS)).code == "quarantined"
    assert server.enrolment(phone.id).status_reason == "clone_proved"
