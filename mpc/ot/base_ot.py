"""Base OT: 128 instances of the endemic OT of Masny and Rindal (CCS 2019, figure 8), one message each way.

    receiver, choice c:   r_{1-c} random point,  r_c = b·B − H_c(r_{1-c})                → sends r_0, r_1
    both:                 M_0 = r_0 + H_0(r_1),  M_1 = r_1 + H_1(r_0)         so M_c = b·B
    sender:               A = a·B,  k_0 = KDF(a·M_0),  k_1 = KDF(a·M_1)                  → sends A
    receiver:             k_c = KDF(b·A)

The receiver cannot know the discrete logarithm of both M, since each r is hashed into the other. The sender sees
two uniform points whichever c is. The server plays the receiver with the bits of Δ as choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.errors import Blame, DecodeError
from mpc.ot.keys import KAPPA, KEY_BYTES, ReceiverBaseKeys, SenderBaseKeys
from mpc.primitives import group
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled

RECEIVER_MESSAGE_BYTES = KAPPA * 2 * group.POINT_BYTES
SENDER_MESSAGE_BYTES = KAPPA * group.POINT_BYTES
_LABEL_H = "tandem base-ot hash v1"
_LABEL_KEY = "tandem base-ot key v1"


@dataclass(frozen=True, slots=True)
class BaseOtContext:
    """What binds an instance: who and which run. Both go into every hash."""

    enrolment_id: bytes
    base_ot_id: bytes


@dataclass(frozen=True, slots=True)
class ReceiverState(NeverPickled):
    """What the receiver keeps between its message and the sender's: Δ, its exponents, its own message."""

    delta: bytes = field(repr=False)
    exponents: bytes = field(repr=False)
    message: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """Fixed layout 16 ‖ 4096 ‖ 8192 bytes, for sealing at rest between the two requests."""
        return self.delta + self.exponents + self.message

    @classmethod
    def from_bytes(cls, data: bytes) -> ReceiverState:
        cut = KEY_BYTES + KAPPA * 32
        if len(data) != cut + RECEIVER_MESSAGE_BYTES:
            raise DecodeError("base_ot_receiver_state", "has the wrong length")
        return cls(delta=data[:KEY_BYTES], exponents=data[KEY_BYTES:cut], message=data[cut:])


def receiver_round_1(rng: Rng, context: BaseOtContext) -> ReceiverState:
    """Server, first: draws Δ (lowest bit 1) and makes the message (`state.message`, 8,192 bytes: r_0 ‖ r_1 each)."""
    delta = bytearray(rng.bytes(KEY_BYTES))
    delta[0] |= 1
    exponents: list[bytes] = []
    message: list[bytes] = []
    for index in range(KAPPA):
        choice = delta[index // 8] >> (index % 8) & 1
        exponent = group.random_scalar(rng)
        other = group.base_times(group.random_scalar(rng))
        own = group.subtract(group.base_times(exponent), _hash(context, index, choice, other))
        # Selected by indexing a pair: no branch on a bit of Δ.
        message += [(own, other)[choice], (other, own)[choice]]
        exponents.append(exponent)
    return ReceiverState(bytes(delta), b"".join(exponents), b"".join(message))


def sender_round_1(rng: Rng, context: BaseOtContext, received: bytes) -> tuple[ReceiverBaseKeys, bytes]:
    """Device: from the receiver's message to both keys of each instance, and the message to send (4,096 bytes).

    Raises ProtocolAbort("invalid_point", server) or DecodeError.
    """
    if len(received) != RECEIVER_MESSAGE_BYTES:
        raise DecodeError("base_ot.receiver_message", f"must have {RECEIVER_MESSAGE_BYTES} bytes")
    keys: tuple[list[bytes], list[bytes]] = ([], [])
    message: list[bytes] = []
    for index in range(KAPPA):
        start = index * 2 * group.POINT_BYTES
        pair = [
            group.checked_point(received[start + at : start + at + group.POINT_BYTES], Blame.SERVER)
            for at in (0, group.POINT_BYTES)
        ]
        # A fresh exponent for each instance: a shared one would let a malicious receiver relate instances.
        exponent = group.random_scalar(rng)
        public = group.base_times(exponent)
        for choice in (0, 1):
            mask = group.add(pair[choice], _hash(context, index, choice, pair[1 - choice]))
            group.checked_point(mask, Blame.SERVER)
            keys[choice].append(_key(context, index, pair, public, choice, group.times(exponent, mask)))
        message.append(public)
    return ReceiverBaseKeys(b"".join(keys[0]), b"".join(keys[1])), b"".join(message)


def receiver_round_2(context: BaseOtContext, state: ReceiverState, received: bytes) -> SenderBaseKeys:
    """Server, last: one key of each instance. Raises ProtocolAbort("invalid_point", device) or DecodeError."""
    if len(received) != SENDER_MESSAGE_BYTES:
        raise DecodeError("base_ot.sender_message", f"must have {SENDER_MESSAGE_BYTES} bytes")
    chosen: list[bytes] = []
    for index in range(KAPPA):
        choice = state.delta[index // 8] >> (index % 8) & 1
        at = index * group.POINT_BYTES
        public = group.checked_point(received[at : at + group.POINT_BYTES], Blame.DEVICE)
        pair = [state.message[2 * at + offset : 2 * at + offset + group.POINT_BYTES] for offset in (0, 32)]
        shared = group.times(state.exponents[at : at + 32], public)
        chosen.append(_key(context, index, pair, public, choice, shared))
    return SenderBaseKeys(state.delta, b"".join(chosen))


def _hash(context: BaseOtContext, index: int, choice: int, point: bytes) -> bytes:
    where = index.to_bytes(2, "big") + bytes([choice])
    return group.hash_to_point(_LABEL_H, context.enrolment_id, context.base_ot_id, where, point)


def _key(context: BaseOtContext, index: int, pair: list[bytes], public: bytes, choice: int, shared: bytes) -> bytes:
    where = index.to_bytes(2, "big") + bytes([choice])
    parts = (context.enrolment_id, context.base_ot_id, where, pair[0], pair[1], public, shared)
    return tagged_hash(_LABEL_KEY, *parts)[:KEY_BYTES]
