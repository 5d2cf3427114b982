"""What all the stories begin with: ids, one base OT, a template and its shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from interop.drawing import Draws
from interop.notation import Json
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare, share_template
from mpc.ot.base_ot import BaseOtContext, ReceiverState, receiver_round_1, receiver_round_2, sender_round_1
from mpc.ot.keys import KAPPA, ReceiverBaseKeys, SenderBaseKeys
from mpc.primitives.bit_matrix import pack, unpack

SERVER_ID = "auth.example"
RP_ID = "shop.example"
ORIGIN = "https://shop.example"
ENROLMENT_ID = bytes(range(0x10, 0x20))
BASE_OT_ID = bytes(range(0x20, 0x30))
CREDENTIAL_ID = bytes(range(0x30, 0x50))
USER_HANDLE = b"user-0001"

SIM_512 = Profile(name="sim-512", code_bits=512, threshold=163, encoder_id="binary-code-v1")
"""The smallest profile that a server serves by default."""


@dataclass(frozen=True, slots=True)
class BaseOt:
    """One run of the base OT: what each side drew, kept and sent."""

    context: BaseOtContext
    server_seed: str
    server_draws: list[Json]
    receiver: ReceiverState
    device_seed: str
    device_draws: list[Json]
    device_keys: ReceiverBaseKeys
    sender_message: bytes
    server_keys: SenderBaseKeys


@lru_cache(maxsize=4)
def base_ot(occasion: str = "base OT", base_ot_id: bytes = BASE_OT_ID) -> BaseOt:
    """The run that the enrolment and all logins share; a recovery or rotation has one of its own."""
    context = BaseOtContext(ENROLMENT_ID, base_ot_id)
    server, device = Draws(f"tandem vectors: {occasion}, server"), Draws(f"tandem vectors: {occasion}, device")
    each = [name for i in range(KAPPA) for name in (f"b of instance {i}", f"exponent of r_(1-c) of instance {i}")]
    with server.named("Delta, whose lowest bit is then set", *each) as server_draws:
        receiver = receiver_round_1(server, context)
    with device.named(*(f"a of instance {i}" for i in range(KAPPA))) as device_draws:
        device_keys, sender_message = sender_round_1(device, context, receiver.message)
    return BaseOt(
        context=context,
        server_seed=server.seed,
        server_draws=server_draws,
        receiver=receiver,
        device_seed=device.seed,
        device_draws=device_draws,
        device_keys=device_keys,
        sender_message=sender_message,
        server_keys=receiver_round_2(context, receiver, sender_message),
    )


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A template in the clear, which nobody has after the enrolment, and the two shares of it."""

    profile: Profile
    codes: bytes
    masks: bytes
    device: TemplateShare
    server: TemplateShare
    seed: str
    draws: list[Json]

    def probe_at(self, distance: int) -> bytes:
        """A code for each template that differs from it in bits 0, 3, 6, … modulo the length: `distance` of them."""
        bits = unpack(self.codes).copy().reshape(self.profile.templates, -1)
        bits[:, 3 * np.arange(distance) % self.profile.code_bits] ^= 1
        return pack(bits.reshape(-1))


def enrolled(profile: Profile, seed: str) -> Enrolled:
    """A template of random bits; with masks, every fifth bit is unusable."""
    draws = Draws(seed)
    with draws.named("template t", "t2", "m2, of no bytes without masks") as drawn:
        codes = draws.bytes(profile.template_bytes)
        mask = np.ones(8 * profile.mask_bytes, dtype=np.uint8)
        mask[::5] = 0
        masks = pack(mask)
        device, server = share_template(draws, codes, masks)
    return Enrolled(profile, codes, masks, device, server, seed, drawn)
