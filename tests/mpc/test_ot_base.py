"""Base OT: the receiver gets exactly the keys of its choice bits, and bad or foreign messages give nothing."""

from __future__ import annotations

import pickle

import pytest
from edwards_points import IDENTITY, SMALL_ORDER, P
from parties import BASE_OT_ID, ENROLMENT_ID

from mpc.errors import Blame, DecodeError, ProtocolAbort
from mpc.ot.base_ot import (
    RECEIVER_MESSAGE_BYTES,
    SENDER_MESSAGE_BYTES,
    BaseOtContext,
    ReceiverState,
    receiver_round_1,
    receiver_round_2,
    sender_round_1,
)
from mpc.ot.keys import KAPPA, ReceiverBaseKeys, SenderBaseKeys
from mpc.primitives import group
from mpc.primitives.rng import SeededRng, SystemRng

CONTEXT = BaseOtContext(ENROLMENT_ID, BASE_OT_ID)
OTHER_CONTEXTS = {
    "enrolment": BaseOtContext(bytes(16), BASE_OT_ID),
    "run": BaseOtContext(ENROLMENT_ID, bytes(16)),
    "swapped": BaseOtContext(BASE_OT_ID, ENROLMENT_ID),
}
BAD_POINTS = {
    "identity": IDENTITY,
    "order 8": SMALL_ORDER[-1],
    "order 2": SMALL_ORDER[4],
    "not canonical": (P + 3).to_bytes(32, "little"),
    "zeros": bytes(32),
    "off the curve": (2).to_bytes(32, "little"),
    "all ones": b"\xff" * 32,
}


def bits(delta: bytes) -> list[int]:
    return [delta[index // 8] >> index % 8 & 1 for index in range(KAPPA)]


def keys_at(data: bytes) -> list[bytes]:
    return [data[at : at + 16] for at in range(0, len(data), 16)]


def agreements(device: ReceiverBaseKeys, server: SenderBaseKeys) -> int:
    pairs = zip(bits(server.delta), keys_at(device.zeros), keys_at(device.ones), keys_at(server.chosen), strict=True)
    return sum((zero, one)[bit] == chosen for bit, zero, one, chosen in pairs)


@pytest.fixture(scope="module")
def receiver() -> ReceiverState:
    return receiver_round_1(SeededRng(b"receiver"), CONTEXT)


@pytest.mark.parametrize("rng", [SeededRng(b"any"), SystemRng()], ids=["seeded", "system"])
def test_the_receiver_gets_the_keys_of_its_choices_and_no_other(rng: SystemRng | SeededRng) -> None:
    state = receiver_round_1(rng, CONTEXT)
    device, reply = sender_round_1(rng, CONTEXT, state.message)
    # the server's state crosses two requests, so it also passes through bytes
    server = receiver_round_2(CONTEXT, ReceiverState.from_bytes(state.to_bytes()), reply)

    assert agreements(device, server) == KAPPA
    assert len(state.message) == RECEIVER_MESSAGE_BYTES and len(reply) == SENDER_MESSAGE_BYTES
    every_key = keys_at(device.zeros) + keys_at(device.ones)
    assert len(set(every_key)) == 2 * KAPPA
    assert SenderBaseKeys.from_bytes(server.to_bytes()) == server


def test_delta_is_odd_and_otherwise_random() -> None:
    deltas = [receiver_round_1(SeededRng(bytes([seed])), CONTEXT).delta for seed in range(20)]

    assert all(delta[0] & 1 for delta in deltas)
    assert len(set(deltas)) == len(deltas)
    ones = [sum(column) for column in zip(*map(bits, deltas), strict=True)]
    assert all(0 < count < len(deltas) for count in ones[1:])


def test_points_and_exponents_are_fresh_in_every_instance(receiver: ReceiverState) -> None:
    """One exponent for all instances would let a malicious receiver relate them."""
    _, reply = sender_round_1(SeededRng(b"sender"), CONTEXT, receiver.message)
    points = [receiver.message[at : at + 32] for at in range(0, RECEIVER_MESSAGE_BYTES, 32)]
    replies = [reply[at : at + 32] for at in range(0, SENDER_MESSAGE_BYTES, 32)]

    assert len(set(points)) == 2 * KAPPA and len(set(replies)) == KAPPA


@pytest.mark.parametrize("name", BAD_POINTS)
@pytest.mark.parametrize("at", [0, 1, 127, 255])
def test_the_sender_refuses_a_bad_point_and_blames_the_server(receiver: ReceiverState, name: str, at: int) -> None:
    message = receiver.message[: 32 * at] + BAD_POINTS[name] + receiver.message[32 * (at + 1) :]

    with pytest.raises(ProtocolAbort) as caught:
        sender_round_1(SeededRng(b"sender"), CONTEXT, message)

    assert (caught.value.reason, caught.value.blame) == ("invalid_point", Blame.SERVER)


@pytest.mark.parametrize("name", BAD_POINTS)
@pytest.mark.parametrize("at", [0, 64, 127])
def test_the_receiver_refuses_a_bad_point_and_blames_the_device(receiver: ReceiverState, name: str, at: int) -> None:
    _, reply = sender_round_1(SeededRng(b"sender"), CONTEXT, receiver.message)
    message = reply[: 32 * at] + BAD_POINTS[name] + reply[32 * (at + 1) :]

    with pytest.raises(ProtocolAbort) as caught:
        receiver_round_2(CONTEXT, receiver, message)

    assert (caught.value.reason, caught.value.blame) == ("invalid_point", Blame.DEVICE)


@pytest.mark.parametrize("choice", [0, 1])
def test_a_receiver_that_cancels_the_hash_is_refused(receiver: ReceiverState, choice: int) -> None:
    """r_c = −H_c(r_{1−c}) makes M_c the identity, so that k_c would not depend on the sender's exponent."""
    index = 5
    pair = [receiver.message[64 * index + 32 * side : 64 * index + 32 * side + 32] for side in (0, 1)]
    where = index.to_bytes(2, "big") + bytes([choice])
    hashed = group.hash_to_point("tandem base-ot hash v1", ENROLMENT_ID, BASE_OT_ID, where, pair[1 - choice])
    pair[choice] = group.subtract(IDENTITY, hashed)
    message = receiver.message[: 64 * index] + pair[0] + pair[1] + receiver.message[64 * (index + 1) :]

    with pytest.raises(ProtocolAbort) as caught:
        sender_round_1(SeededRng(b"sender"), CONTEXT, message)

    assert (caught.value.reason, caught.value.blame) == ("invalid_point", Blame.SERVER)


@pytest.mark.parametrize("which", OTHER_CONTEXTS)
def test_in_another_context_no_key_agrees(receiver: ReceiverState, which: str) -> None:
    device, reply = sender_round_1(SeededRng(b"sender"), OTHER_CONTEXTS[which], receiver.message)

    assert agreements(device, receiver_round_2(CONTEXT, receiver, reply)) == 0


def test_swapped_instances_disagree_and_the_others_do_not(receiver: ReceiverState) -> None:
    message = receiver.message[64:128] + receiver.message[:64] + receiver.message[128:]
    device, reply = sender_round_1(SeededRng(b"sender"), CONTEXT, message)
    server = receiver_round_2(CONTEXT, receiver, reply)

    assert agreements(device, server) == KAPPA - 2


def test_swapped_replies_disagree(receiver: ReceiverState) -> None:
    device, reply = sender_round_1(SeededRng(b"sender"), CONTEXT, receiver.message)
    server = receiver_round_2(CONTEXT, receiver, reply[32:64] + reply[:32] + reply[64:])

    assert agreements(device, server) == KAPPA - 2


def test_the_two_points_of_an_instance_are_not_interchangeable(receiver: ReceiverState) -> None:
    message = receiver.message[32:64] + receiver.message[:32] + receiver.message[64:]
    device, reply = sender_round_1(SeededRng(b"sender"), CONTEXT, message)

    assert agreements(device, receiver_round_2(CONTEXT, receiver, reply)) == KAPPA - 1


def test_a_reply_of_another_run_gives_no_key(receiver: ReceiverState) -> None:
    device, _ = sender_round_1(SeededRng(b"sender"), CONTEXT, receiver.message)
    _, foreign = sender_round_1(SeededRng(b"another sender"), CONTEXT, receiver.message)

    assert agreements(device, receiver_round_2(CONTEXT, receiver, foreign)) == 0


@pytest.mark.parametrize("change", [-8192, -64, -1, 1, 32])
def test_the_receivers_message_has_one_length(receiver: ReceiverState, change: int) -> None:
    message = (receiver.message + bytes(64))[: RECEIVER_MESSAGE_BYTES + change]

    with pytest.raises(DecodeError) as caught:
        sender_round_1(SeededRng(b"sender"), CONTEXT, message)

    assert caught.value.field == "base_ot.receiver_message"


@pytest.mark.parametrize("change", [-4096, -32, -1, 1, 32])
def test_the_senders_message_has_one_length(receiver: ReceiverState, change: int) -> None:
    with pytest.raises(DecodeError) as caught:
        receiver_round_2(CONTEXT, receiver, bytes(SENDER_MESSAGE_BYTES + change))

    assert caught.value.field == "base_ot.sender_message"


def test_stored_keys_of_the_wrong_shape_are_refused() -> None:
    keys = SenderBaseKeys(b"\x01" + bytes(15), bytes(2048))
    for data in (b"", keys.to_bytes()[:-1], keys.to_bytes() + b"\x00", b"\x02" + keys.to_bytes()[1:]):
        with pytest.raises(DecodeError):
            SenderBaseKeys.from_bytes(data)
    with pytest.raises(DecodeError):
        ReceiverBaseKeys(bytes(2048), bytes(2047))
    with pytest.raises(DecodeError):
        ReceiverState.from_bytes(bytes(16 + 4096 + 8191))


def test_keys_are_not_pickled_and_not_shown() -> None:
    secret = bytes(range(1, 17)) * 128
    state = ReceiverState(secret[:16], secret * 2, secret * 4)
    for keys in (ReceiverBaseKeys(secret, secret), SenderBaseKeys(secret[:16], secret), state):
        with pytest.raises(TypeError):
            pickle.dumps(keys)
        assert "\\x" not in repr(keys)
