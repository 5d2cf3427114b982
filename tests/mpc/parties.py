"""A device and a server for the tests of the protocol core. They exchange bytes and share no object.

Enrolment runs the real base OT and splits a real key; both are cached, because what is under test begins after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric import rsa

from mpc.login import template
from mpc.login.authenticator_data import assertion_data
from mpc.login.device_side import DeviceLogin, DeviceLoginState, LoginRequest, Match, NoMatch, Probe
from mpc.login.messages import Message1, token_hash
from mpc.login.profile import Profile
from mpc.login.server_side import Answer, ServerLoginState, Verdict, decide
from mpc.login.template import TemplateShare, share_template
from mpc.ot.base_ot import BaseOtContext, receiver_round_1, receiver_round_2, sender_round_1
from mpc.ot.keys import ReceiverBaseKeys, SenderBaseKeys
from mpc.primitives.bit_matrix import Bits, pack
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import refresh_offset, refreshed, split

SERVER_ID = "auth.example"
RP_ID = "shop.example"
ENROLMENT_ID = bytes(range(16))
BASE_OT_ID = bytes(range(16, 32))
CREDENTIAL_ID = bytes(range(32, 64))

PLAIN = Profile(name="plain-512", code_bits=512, threshold=120, encoder_id="test encoder")
MASKED = Profile(
    name="masked-512",
    code_bits=512,
    threshold=0,
    encoder_id="test encoder",
    masked=True,
    min_valid=384,
    ratio_numerator=80,
    ratio_shift=8,
)


def plain_profile(code_bits: int, threshold: int | None = None, templates: int = 1) -> Profile:
    """A plain profile of this size; the threshold is a quarter of the bits unless told otherwise."""
    return Profile(
        name=f"plain-{code_bits}",
        code_bits=code_bits,
        threshold=code_bits // 4 if threshold is None else threshold,
        encoder_id="test encoder",
        templates=templates,
    )


@lru_cache(maxsize=8)
def private_key(bits: int, which: int = 0) -> rsa.RSAPrivateKey:
    """A key of this size, made by another library once a session; `which` tells several of one size apart."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def public_key(private: rsa.RSAPrivateKey) -> PublicKey:
    return PublicKey(private.public_key().public_numbers().n)


def private_exponent(private: rsa.RSAPrivateKey) -> int:
    return private.private_numbers().d


@lru_cache(maxsize=8)
def base_keys(seed: bytes = b"base ot") -> tuple[ReceiverBaseKeys, SenderBaseKeys]:
    """(device's, server's) base-OT keys from a run of the real protocol over bytes."""
    context = BaseOtContext(ENROLMENT_ID, BASE_OT_ID)
    state = receiver_round_1(SeededRng(seed + b" receiver"), context)
    device_keys, reply = sender_round_1(SeededRng(seed + b" sender"), context, bytes(state.message))
    return device_keys, receiver_round_2(context, state, bytes(reply))


@dataclass(frozen=True, slots=True)
class Capture:
    """One probe or one enrolment as bits: `codes` shape (K, n); `masks` shape (K, n) or (1, n) for a probe."""

    codes: Bits
    masks: Bits

    def packed(self, profile: Profile) -> tuple[bytes, bytes]:
        return pack(self.codes.reshape(-1)), pack(self.masks.reshape(-1)) if profile.masked else b""

    def probe(self, profile: Profile) -> Probe:
        return Probe(*self.packed(profile))


@dataclass(frozen=True, slots=True)
class Device:
    """The device's state and nothing of the server's."""

    state: DeviceLoginState

    def start(self, capture: Capture, seed: bytes = b"device", request: LoginRequest | None = None) -> DeviceLogin:
        probe = capture.probe(self.state.profile)
        return DeviceLogin(SeededRng(seed), self.state, request or get_request(), probe)

    def after(self, match: Match) -> Device:
        """The device once its confirmation has been acknowledged."""
        return Device(
            replace(
                self.state,
                epoch=self.state.epoch + 1,
                template=match.next_template,
                key_share=match.next_key_share,
            )
        )


@dataclass(frozen=True, slots=True)
class Server:
    """The server's state and nothing of the device's."""

    state: ServerLoginState

    def judge(self, body: bytes, seed: bytes = b"server") -> Verdict:
        return decide(SeededRng(seed), self.state, Message1.decode(body), body)

    def answer(self, body: bytes, seed: bytes = b"server") -> bytes:
        """Message 2; the checks of message 1 must pass."""
        return self.accept(body, seed).message_2

    def accept(self, body: bytes, seed: bytes = b"server") -> Answer:
        verdict = self.judge(body, seed)
        assert isinstance(verdict, Answer), type(verdict).__name__
        return verdict

    def confirmed(self, answer: Answer, token: bytes) -> Server:
        """The server of the next epoch; the token must be the one this answer sealed."""
        assert token_hash(token) == answer.token_hash
        state = self.state
        offset = refresh_offset(state.key_share.key, answer.session_id, answer.rho, CREDENTIAL_ID)
        return Server(
            replace(
                state,
                template=template.refreshed(state.template, answer.session_id, answer.rho, ENROLMENT_ID),
                key_share=refreshed(state.key_share, offset),
            )
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Both parties, and what nobody holds once the enrolment is over: the clear template and the private key."""

    device: Device
    server: Server
    enrolled: Capture
    private: rsa.RSAPrivateKey


def enrol(
    profile: Profile,
    *,
    key_bits: int = 2048,
    algorithm: Algorithm = Algorithm.RS256,
    enrolled: Capture | None = None,
    seed: bytes = b"enrolment",
) -> Pair:
    """An enrolled pair at epoch 0. Without `enrolled`, a random template with three unusable bits in a mask."""
    chosen = enrolled if enrolled is not None else random_capture(profile, profile.templates, seed)
    private = private_key(key_bits)
    device_base, server_base = base_keys()
    device_share, server_share = split(SeededRng(seed + b" key"), public_key(private), private_exponent(private))
    device_template, server_template = share_template(SeededRng(seed + b" template"), *chosen.packed(profile))
    device = DeviceLoginState(
        enrolment_id=ENROLMENT_ID,
        server_id=SERVER_ID,
        profile=profile,
        base_ot_id=BASE_OT_ID,
        base_keys=device_base,
        epoch=0,
        template=device_template,
        credential_id=CREDENTIAL_ID,
        algorithm=algorithm,
        key_share=device_share,
    )
    server = ServerLoginState(
        server_id=SERVER_ID,
        profile=profile,
        algorithm=algorithm,
        base_keys=server_base,
        template=TemplateShare.from_bytes(profile, server_template.to_bytes()),
        key_share=server_share,
    )
    return Pair(Device(device), Server(server), chosen, private)


def random_capture(profile: Profile, count: int, seed: bytes) -> Capture:
    """`count` random codes, each with a mask of which three bits are unusable."""
    generator = np.random.default_rng(list(seed))
    codes = generator.integers(0, 2, (count, profile.code_bits), dtype=np.uint8)
    masks = np.ones_like(codes)
    masks[:, :3] = 0
    return Capture(codes, masks)


def probe_at(enrolled: Capture, *distances: int, seed: int = 1) -> Capture:
    """A probe with one code a template, the k-th at distances[k] from it, differing only in usable bits."""
    generator = np.random.default_rng(seed)
    codes = enrolled.codes.copy()
    for code, mask, distance in zip(codes, enrolled.masks, distances, strict=True):
        code[generator.choice(np.flatnonzero(mask), distance, replace=False)] ^= 1
    return Capture(codes, np.ones((1, codes.shape[1]), dtype=np.uint8))


def get_request(ot_index: int = 1, sign_count: int = 1, client_data_hash: bytes = b"\x5a" * 32) -> LoginRequest:
    return LoginRequest("get", ot_index, assertion_data(RP_ID, sign_count), client_data_hash)


def signed_bytes(request: LoginRequest) -> bytes:
    """What the relying party will verify the signature over."""
    return request.authenticator_data + request.client_data_hash


def run(pair: Pair, capture: Capture, seed: bytes = b"run") -> Match | NoMatch:
    """One honest login, over bytes."""
    login = pair.device.start(capture, seed + b" device")
    return login.finish(bytes(pair.server.answer(bytes(login.message_1), seed + b" server")))
