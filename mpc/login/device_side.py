"""The device's part of a login: message 1 from the probe, and from message 2 a signature or "no match"."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mpc.errors import Blame, ProtocolAbort, SessionMisuse
from mpc.garbling.evaluator import evaluate
from mpc.garbling.hashing import input_whitening, tables_bytes
from mpc.login import template
from mpc.login.attestation import MAX_BOX_BYTES, AttestationStatement, open_statement
from mpc.login.messages import NONCE_BYTES, Confirmation, LoginStatement, Message1, Message2
from mpc.login.profile import Profile
from mpc.login.session import OutputKeys, exchange, output_tag, sealed_bytes, session_id
from mpc.login.template import TemplateShare
from mpc.ot import extension_receiver
from mpc.ot.expansion import challenge, stream_key
from mpc.ot.keys import ReceiverBaseKeys
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.encodings import PSS_SALT_BYTES, Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare, refresh_offset, refreshed
from mpc.threshold_rsa.signing import combine, partial_signature, share_tag


@dataclass(frozen=True, slots=True)
class DeviceLoginState(NeverPickled):
    """What the device holds for one enrolment and credential, at one epoch."""

    enrolment_id: bytes
    server_id: str
    profile: Profile
    base_ot_id: bytes
    base_keys: ReceiverBaseKeys = field(repr=False)
    epoch: int
    template: TemplateShare = field(repr=False)
    credential_id: bytes
    algorithm: Algorithm
    key_share: KeyShare = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """What is to be signed, and the index that the device has already stored as used."""

    kind: str
    ot_index: int
    authenticator_data: bytes
    client_data_hash: bytes
    confirmation: Confirmation | None = None
    change: Callable[[TemplateShare], TemplateShare] = lambda share: share
    """What becomes of the template share with the next epoch, before it is refreshed (kind `change`)."""
    attest: bool = False
    """For a registration: ask for the server's attestation too."""


@dataclass(frozen=True, slots=True)
class Probe(NeverPickled):
    """The fresh capture as packed bits: one code a template (the same code repeated, or different ones), one mask.

    With rotations one code for all templates.
    """

    codes: bytes = field(repr=False)
    mask: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoMatch:
    """The joint decision was "too far". To the server this looks like silence."""


@dataclass(frozen=True, slots=True)
class Match(NeverPickled):
    """The signature, and what must be durable before it is released: next epoch's shares and the token.

    `attestation`: what the server gave of it where it was asked, over the same bytes as the signature.
    """

    signature: bytes
    next_template: TemplateShare = field(repr=False)
    next_key_share: KeyShare = field(repr=False)
    confirmation: Confirmation
    attestation: AttestationStatement | None = None


class DeviceLogin(NeverPickled):
    """One login between its two messages. `message_1` is sent, `finish` takes the answer, once."""

    __slots__ = ("_encoded", "_ephemeral", "_finished", "_labels", "_partial", "_request", "_state", "message_1")

    def __init__(self, rng: Rng, state: DeviceLoginState, request: LoginRequest, probe: Probe) -> None:
        """Compute message 1. `request.ot_index` must be on disk already: an index is never used twice.

        Raises ValueError if the probe does not fit the profile.
        """
        profile = state.profile
        mask_bits = profile.code_bits if profile.masked else 0
        if len(probe.codes) * 8 != profile.code_bits * profile.probe_codes or len(probe.mask) * 8 != mask_bits:
            raise ValueError("the probe does not fit the profile")
        self._ephemeral = X25519PrivateKey.from_private_bytes(rng.bytes(32))
        statement = LoginStatement(
            enrolment_id=state.enrolment_id,
            base_ot_id=state.base_ot_id,
            profile_digest=profile.digest,
            kind=request.kind,
            credential_id=state.credential_id,
            epoch=state.epoch,
            ot_index=request.ot_index,
            authenticator_data=request.authenticator_data,
            client_data_hash=request.client_data_hash,
            pss_salt=rng.bytes(PSS_SALT_BYTES) if state.algorithm is Algorithm.PS256 else None,
            device_nonce=rng.bytes(NONCE_BYTES),
            ephemeral=self._ephemeral.public_key().public_bytes_raw(),
            confirmation=request.confirmation,
            attest=request.attest,
        )
        key = state.key_share.key
        self._encoded = encode_message(state.algorithm, statement.signed_message, statement.pss_salt, key.bits)
        self._partial = partial_signature(state.key_share, self._encoded)
        choices = _choices(profile, state.template, probe)
        extension = extension_receiver.extend(
            rng,
            state.base_keys,
            stream_key(state.base_ot_id, statement.ot_index, statement.device_nonce),
            choices,
        )
        rows = challenge(statement.digest, profile.digest, tagged_hash("tandem u v1", extension.u), profile.input_bits)
        proof_x, proof_y = extension_receiver.prove(extension, rows)
        tag = share_tag(key, statement.digest, self._partial)
        self.message_1 = Message1(statement, tag, extension.u, proof_x, proof_y).encode()
        self._labels = extension.labels
        self._state = state
        self._request = request
        self._finished = False

    def __repr__(self) -> str:
        return "DeviceLogin()"

    def finish(self, answer: bytes) -> Match | NoMatch:
        """Evaluate, open, combine, verify.

        Raises DecodeError for a malformed answer, and ProtocolAbort blaming the server: "output_label",
        "sealed_box", "bad_partial_signature", "invalid_point", "attestation". Nothing may be sent to the server in
        any of these cases, nor after NoMatch: the silence must look the same. Raises SessionMisuse when called twice.
        """
        if self._finished:
            raise SessionMisuse("this login is finished: a second answer could tell the server more about the probe")
        self._finished = True
        state, profile, key = self._state, self._state.profile, self._state.key_share.key
        circuit = profile.circuit
        received = Message2.decode(
            answer,
            tables_bytes=tables_bytes(circuit),
            sealed_bytes=sealed_bytes(key),
            attestation_at_most=MAX_BOX_BYTES if self._request.attest else None,
        )
        sid = session_id(
            message_1=self.message_1,
            server_id=state.server_id,
            profile_digest=profile.digest,
            key=key,
            server_nonce=received.server_nonce,
            server_ephemeral=received.ephemeral,
        )
        label = evaluate(circuit, sid, received.tables, self._labels ^ input_whitening(sid, circuit.inputs))
        if hmac.compare_digest(output_tag(0, sid, label), received.reject_tag):
            return NoMatch()
        if not hmac.compare_digest(output_tag(1, sid, label), received.accept_tag):
            raise ProtocolAbort("output_label", Blame.SERVER)
        keys = OutputKeys.derive(sid, label, exchange(self._ephemeral, received.ephemeral, Blame.SERVER))
        server_partial, rho = keys.open(received.sealed)
        signature = combine(key, self._encoded, self._partial, int.from_bytes(server_partial, "big"))
        attestation = None
        if received.attestation is not None:
            signed = self._request.authenticator_data + self._request.client_data_hash
            attestation = open_statement(keys, state.key_share, received.attestation, signed)
        offset = refresh_offset(key, sid, rho, state.credential_id)
        return Match(
            signature=signature,
            # The change first: a template that has just come in is refreshed with the others, or the share that the
            # server was told of in this epoch would fit this device's of the next.
            next_template=template.refreshed(self._request.change(state.template), sid, rho, state.enrolment_id),
            next_key_share=refreshed(state.key_share, -offset),
            confirmation=Confirmation(self._request.ot_index, keys.token),
            attestation=attestation,
        )


def _choices(profile: Profile, share: TemplateShare, probe: Probe) -> bytes:
    """u = t1 ⊕ b for each template, then the masks m1, then the probe's own mask.

    With rotations u = t1, m1, b, then the probe's mask: the circuit adds t and b itself, once for each rotation.
    """
    if profile.rotation:
        return share.codes + share.masks + probe.codes + probe.mask
    return template.xor(share.codes, probe.codes) + share.masks + probe.mask
