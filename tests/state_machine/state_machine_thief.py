"""What somebody who holds a copy of the vault can send: well-formed, signed, and not what the SDK would send."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from state_machine_harness import FACE, LOGINS, Phone, signed, to_base64

from authsvc.services.context import SignedRequest
from device_sdk.vault.state import DeviceState
from mpc.login import template
from mpc.login.authenticator_data import assertion_data
from mpc.login.device_side import DeviceLogin, DeviceLoginState, LoginRequest, Probe
from mpc.login.messages import Message1
from mpc.ot import extension_receiver
from mpc.ot.expansion import challenge, stream_key
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import Rng, SystemRng


def crafted_login(
    phone: Phone,
    *,
    ot_index: int,
    sign_count: int,
    epoch: int | None = None,
    bent_column: int | None = None,
    authenticator_data: bytes | None = None,
    credential_id: bytes | None = None,
    face: Any = FACE,
    rng: Rng | None = None,
) -> SignedRequest:
    """Message 1 with the index, counter and epoch one likes, from the shares in this vault; nothing is stored.

    bent_column: the choice bits of that OT column are inverted, so that the proof passes iff that bit of Δ is 0.
    """
    login = started_login(
        phone.state,
        ot_index=ot_index,
        sign_count=sign_count,
        epoch=epoch,
        authenticator_data=authenticator_data,
        credential_id=credential_id,
        face=face,
        rng=rng,
    )
    body = login.message_1
    if bent_column is not None:
        body = _bent(phone.state, Message1.decode(body), bent_column, face)
    return as_request(phone, body)


def as_request(phone: Phone, body: bytes, path: str = LOGINS) -> SignedRequest:
    return signed(path, body, phone.request_key, to_base64(phone.id), phone.network.clock())


def started_login(
    state: DeviceState,
    *,
    ot_index: int,
    sign_count: int,
    epoch: int | None = None,
    authenticator_data: bytes | None = None,
    credential_id: bytes | None = None,
    face: Any = FACE,
    rng: Rng | None = None,
    client_data_hash: bytes = bytes(32),
    kind: str = "get",
) -> DeviceLogin:
    """The protocol core's own device, which believes what it is told about index and epoch."""
    credential = state.credentials[0] if credential_id is None else state.credential(credential_id)
    return DeviceLogin(
        rng or SystemRng(),
        DeviceLoginState(
            enrolment_id=state.enrolment_id,
            server_id=state.server_id,
            profile=state.profile,
            base_ot_id=state.base_ot_id,
            base_keys=state.base_keys,
            epoch=state.epoch if epoch is None else epoch,
            template=state.template,
            credential_id=credential.credential_id,
            algorithm=credential.algorithm,
            key_share=credential.key_share,
        ),
        LoginRequest(
            kind=kind,
            ot_index=ot_index,
            authenticator_data=authenticator_data or assertion_data(credential.rp_id, sign_count),
            client_data_hash=client_data_hash,
        ),
        Probe(np.packbits(face, bitorder="little").tobytes() * state.profile.templates, b""),
    )


def _bent(state: DeviceState, message: Message1, column: int, face: Any) -> bytes:
    """The same statement with a fresh extension whose U is inverted in one column before the proof is made."""
    statement, profile = message.statement, state.profile
    choices = template.xor(state.template.codes, np.packbits(face, bitorder="little").tobytes())
    stream = stream_key(statement.base_ot_id, statement.ot_index, statement.device_nonce)
    extension = extension_receiver.extend(SystemRng(), state.base_keys, stream, choices)
    rows = np.frombuffer(extension.u, dtype=np.uint8).reshape(128, -1).copy()
    rows[column] ^= 0xFF
    bent = replace(extension, u=rows.tobytes())
    questions = challenge(statement.digest, profile.digest, tagged_hash("tandem u v1", bent.u), profile.input_bits)
    x, y = extension_receiver.prove(bent, questions)
    return replace(message, u=bent.u, proof_x=x, proof_y=y).encode()
