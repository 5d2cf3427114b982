"""Enrolment: captures to a template, its shares, the four messages, and the first passkey's key."""

from __future__ import annotations

import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from device_sdk.biometrics import BinaryCode, BinaryCodeEncoder, differing_and_valid
from device_sdk.transport import RequestKey, signing_key_id
from interop.drawing import Draws
from interop.enrolled import CREDENTIAL_ID, RP_ID, SERVER_ID, SIM_512, base_ot
from interop.given_keys import given_key
from interop.notation import Json, message, topic
from mpc.login.enrolment_messages import (
    Accepted,
    AddCredential,
    BaseOtOffer,
    EnrolmentFinish,
    EnrolmentStart,
    RevokeCredential,
)
from mpc.login.template import share_template
from mpc.primitives.bit_matrix import unpack
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.shares import split

CODE = "7K2QX-0M9TN-4RWB8-ZC3HD"


def vectors() -> Json:
    run, draws = base_ot(), Draws("tandem vectors: enrolment, device")
    with draws.named("the first capture", "request key") as first_draws:
        captures = _captures(draws.bytes(64))
        request_key = given_request_key(draws)
    encoder = BinaryCodeEncoder(512)
    template = encoder.enrol(captures, lambda one, other: SIM_512.accepts(*differing_and_valid(one, other)))
    with draws.named("t2", "m2, of no bytes without masks") as share_draws:
        device, server = share_template(draws, template.packed(), b"")
    with draws.named("d2, of which the highest B bits count") as key_draws:
        key = given_key(2048)
        device_share, server_share = split(draws, key.public, key.d)

    ids = run.context.enrolment_id, run.context.base_ot_id
    start = EnrolmentStart(SIM_512.name, SIM_512.digest, request_key.public_point(), CODE).encode()
    offer = BaseOtOffer(*ids, SERVER_ID, run.receiver.message).encode()
    finish = EnrolmentFinish(*ids, code=CODE, sender_message=run.sender_message, share=server).encode()
    add = AddCredential(
        enrolment_id=ids[0],
        credential_id=CREDENTIAL_ID,
        rp_id=RP_ID,
        algorithm=Algorithm.RS256,
        modulus=key.public.modulus_bytes,
        exponent=key.public.exponent,
        key_share=server_share.to_bytes(),
    ).encode()
    accepted = Accepted(0, 0).encode()
    return topic(
        "Enrolment and the first passkey",
        "Three captures become a template by the majority of each bit, the template two shares. The base OT is the "
        "one of base-ot.json. How a request is signed is in request-signature.json.",
        ["docs/protocol.md 4", "docs/protocol.md 5", "docs/encoders.md"],
        {
            "seed": draws.seed,
            "parameters": {
                "profile": SIM_512.as_dict(),
                "profile digest": SIM_512.digest.hex(),
                "server_id": SERVER_ID,
            },
            "captures": {
                "draws": first_draws,
                "about": "The second capture differs from the first in every seventh bit, the third in every eleventh.",
                "codes": [one.packed().hex() for one in captures],
                "distances": {
                    f"{i + 1} and {j + 1}": differing_and_valid(captures[i], captures[j])[0]
                    for i, j in ((0, 1), (0, 2), (1, 2))
                },
                "t": template.packed().hex(),
            },
            "request_key": {
                "private scalar": request_key.to_scalar().hex(),
                "signing_key": request_key.public_point().hex(),
                "keyid of POST /v1/enrolments": signing_key_id(public_point=request_key.public_point()),
                "keyid afterwards": signing_key_id(enrolment_id=ids[0]),
            },
            "shares": {"draws": share_draws, "t1": device.codes.hex(), "t2": server.codes.hex()},
            "messages": [
                message("EnrolmentStart", "device", "POST /v1/enrolments", start),
                message("BaseOtOffer", "server", "answer to POST /v1/enrolments", offer),
                message("EnrolmentFinish", "device", "POST /v1/enrolments/finish", finish),
                message("Accepted", "server", "answer to POST /v1/enrolments/finish", accepted),
            ],
            "state_after": {
                "device": {
                    "epoch": 0,
                    "ot_index": 0,
                    "base_ot_id": ids[1].hex(),
                    "k0": run.device_keys.zeros.hex(),
                    "k1": run.device_keys.ones.hex(),
                    "t1": device.codes.hex(),
                },
                "server": {
                    "epoch": 0,
                    "last_index": 0,
                    "base_ot_id": ids[1].hex(),
                    "Delta": run.server_keys.delta.hex(),
                    "k_Delta": run.server_keys.chosen.hex(),
                    "t2": server.codes.hex(),
                    "sha256 of the code, used up": hashlib.sha256(CODE.replace("-", "").encode()).hexdigest(),
                },
            },
            "first_passkey": {
                "key": key.shown(),
                "draws": key_draws,
                "d1": device_share.to_bytes().hex(),
                "d2": server_share.to_bytes().hex(),
                "messages": [
                    message("AddCredential", "device", "POST /v1/credentials", add),
                    message("Accepted", "server", "answer to POST /v1/credentials", accepted),
                    message(
                        "RevokeCredential",
                        "device",
                        "POST /v1/credentials/revoke",
                        RevokeCredential(ids[0], CREDENTIAL_ID).encode(),
                    ),
                ],
            },
        },
    )


def given_request_key(draws: Draws) -> RequestKey:
    """A P-256 key whose scalar is drawn: 32 bytes, which are in range but for one draw in 2^32."""
    return RequestKey(ec.derive_private_key(int.from_bytes(draws.bytes(32), "big"), ec.SECP256R1()))


def _captures(first: bytes) -> list[BinaryCode]:
    bits = unpack(first)
    every_seventh, every_eleventh = (np.arange(bits.size) % step == 0 for step in (7, 11))
    return [BinaryCode(code) for code in (bits, bits ^ every_seventh, bits ^ every_eleventh)]
