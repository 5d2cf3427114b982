"""The server's part of a login: from message 1 to a verdict, in memory and silent.

Nothing here is told to anybody. The service writes the verdict durably first and answers as a function of what
it wrote: whoever answers before, hands out one bit of Δ for each parallel request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mpc.errors import Blame
from mpc.garbling.garbler import garble
from mpc.garbling.hashing import input_whitening
from mpc.login.attestation import AttestationStatement, seal_statement
from mpc.login.messages import NONCE_BYTES, Message1, Message2, token_hash
from mpc.login.profile import Profile
from mpc.login.session import RHO_BYTES, OutputKeys, exchange, output_tag, session_id
from mpc.login.template import TemplateShare
from mpc.ot import extension_sender
from mpc.ot.expansion import challenge, stream_key
from mpc.ot.keys import SenderBaseKeys
from mpc.primitives.aes import Blocks, blocks_from_bytes
from mpc.primitives.bit_matrix import masks_from_bits, unpack
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare
from mpc.threshold_rsa.signing import partial_signature, share_tag_is_valid


@dataclass(frozen=True, slots=True)
class ServerLoginState(NeverPickled):
    """What the server holds for one enrolment and credential, at one epoch."""

    server_id: str
    profile: Profile
    algorithm: Algorithm
    base_keys: SenderBaseKeys = field(repr=False)
    template: TemplateShare = field(repr=False)
    key_share: KeyShare = field(repr=False)


@dataclass(frozen=True, slots=True)
class OtProofFailed:
    """The device's OT proof is wrong. Δ is burnt: erase it before telling anybody."""


@dataclass(frozen=True, slots=True)
class ShareTagFailed:
    """The device's key share does not fit: a stale copy, or another key."""


@dataclass(frozen=True, slots=True)
class Answer(NeverPickled):
    """Both checks passed. `message_2` may leave once the attempt is on disk.

    `session_id` and `rho` are kept, sealed, until the confirmation; of the token only its hash.
    """

    message_2: bytes = field(repr=False)
    session_id: bytes
    rho: bytes = field(repr=False)
    token_hash: bytes
    attested: bool = False


Verdict = OtProofFailed | ShareTagFailed | Answer


def decide(
    rng: Rng,
    state: ServerLoginState,
    message: Message1,
    body: bytes,
    step_ended: Callable[[str], None] = lambda step: None,
    *,
    attestation: AttestationStatement | None = None,
) -> Verdict:
    """Run both checks, garble and seal; the verdict.

    Every request costs the whole computation, whatever the checks say, and the verdict is chosen at the very
    end: an early return after a failed proof would tell a bit of Δ by the clock, before the verdict is durable.
    `body` is the received encoding of `message`. The caller has checked that profile, base OT and epoch of the
    statement are those of `state`. step_ended: told "ot_check", "signature", "garble" and "seal" as each is over,
    whatever came of it. attestation: sealed into the answer beside the partial signature. Raises DecodeError (sizes,
    salt) or ProtocolAbort("invalid_point", device).
    """
    profile, statement, key = state.profile, message.statement, state.key_share.key
    # Everything that can be refused for its form comes before the first look at Δ.
    message.check_fits(profile, state.algorithm)
    ephemeral = X25519PrivateKey.from_private_bytes(rng.bytes(32))
    shared = exchange(ephemeral, statement.ephemeral, Blame.DEVICE)
    encoded = encode_message(state.algorithm, statement.signed_message, statement.pss_salt, key.bits)

    wires, proof_holds = _received_wires(state, message)
    step_ended("ot_check")
    partial = partial_signature(state.key_share, encoded)
    share_fits = share_tag_is_valid(key, statement.digest, encoded, partial, message.share_tag)
    step_ended("signature")

    server_nonce, rho = rng.bytes(NONCE_BYTES), rng.bytes(RHO_BYTES)
    public = ephemeral.public_key().public_bytes_raw()
    sid = session_id(
        message_1=body,
        server_id=state.server_id,
        profile_digest=profile.digest,
        key=key,
        server_nonce=server_nonce,
        server_ephemeral=public,
    )
    circuit = profile.circuit
    # zero-label of input j:  W_j ⊕ t2_j·Δ ⊕ F_j.  The device's active label V_j ⊕ F_j then stands for
    # u_j ⊕ t2_j = t_j ⊕ b_j, without a label being sent.
    zero_labels = wires ^ _own_input_masks(state) & blocks_from_bytes(state.base_keys.delta)
    zero_labels ^= input_whitening(sid, circuit.inputs)
    garbled = garble(circuit, sid, state.base_keys.delta, zero_labels)
    step_ended("garble")
    keys = OutputKeys.derive(sid, garbled.accept_label, shared)
    message_2 = Message2(
        server_nonce=server_nonce,
        ephemeral=public,
        tables=garbled.tables,
        reject_tag=output_tag(0, sid, garbled.reject_label),
        accept_tag=output_tag(1, sid, garbled.accept_label),
        sealed=keys.seal(partial.to_bytes(key.size_bytes, "big"), rho),
        attestation=None if attestation is None else seal_statement(rng, keys, state.key_share, attestation),
    )
    answer = Answer(message_2.encode(), sid, rho, token_hash(keys.token), attestation is not None)
    step_ended("seal")
    if not proof_holds:
        return OtProofFailed()
    return answer if share_fits else ShareTagFailed()


def _received_wires(state: ServerLoginState, message: Message1) -> tuple[Blocks, bool]:
    """W rows of the input wires, and whether the device's proof holds."""
    statement, profile = message.statement, state.profile
    bits = profile.input_bits
    key = stream_key(statement.base_ot_id, statement.ot_index, statement.device_nonce)
    w = extension_sender.extend(state.base_keys, key, message.u, bits)
    rows = challenge(statement.digest, profile.digest, tagged_hash("tandem u v1", message.u), bits)
    return w[:bits], extension_sender.proof_is_valid(state.base_keys, w, rows, message.proof_x, message.proof_y)


def _own_input_masks(state: ServerLoginState) -> Blocks:
    """All-ones where the server's share bit is 1: shape (ℓ, 1). The probe's own wires have no server share."""
    own = np.zeros(state.profile.input_bits, dtype=np.uint8)
    shares = unpack(state.template.to_bytes())
    own[: len(shares)] = shares
    return masks_from_bits(own)[:, None]
