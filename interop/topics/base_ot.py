"""Base OT: 128 instances, with the values inside of the first four."""

from __future__ import annotations

from nacl import bindings as sodium

from interop.enrolled import BaseOt, base_ot
from interop.notation import Json, topic
from mpc.errors import Blame, ProtocolAbort
from mpc.ot.keys import KEY_BYTES
from mpc.primitives import group
from mpc.primitives.hashing import tagged_hash_512

_INSTANCES = 4
_P = 2**255 - 19
_BAD_POINTS = (
    (bytes(32), "y = 0, of order 4"),
    ((1).to_bytes(32, "little"), "the identity"),
    ((_P - 1).to_bytes(32, "little"), "y = -1, of order 2"),
    (_P.to_bytes(32, "little"), "y = p, a second spelling of 0"),
    ((_P + 1).to_bytes(32, "little"), "y = p + 1, a second spelling of the identity"),
    (bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "of order 8"),
    (bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "of order 8"),
    ((2).to_bytes(32, "little"), "no point of the curve"),
)


def vectors() -> Json:
    run = base_ot()
    keys = [run.device_keys.zeros, run.device_keys.ones]
    return topic(
        "Base OT",
        "The server is the receiver with the bits of Delta as choices, the device the sender. Scalars are 64 drawn "
        "bytes reduced modulo the group order. The values of the first four instances are shown inside.",
        ["docs/protocol.md 3", "docs/protocol.md 5"],
        {
            "parameters": {
                "instances": 128,
                "enrolment_id": run.context.enrolment_id.hex(),
                "base_ot_id": run.context.base_ot_id.hex(),
            },
            "server_round_1": {
                "seed": run.server_seed,
                "draws": run.server_draws,
                "Delta": run.receiver.delta.hex(),
                "choices": [run.receiver.delta[i // 8] >> (i % 8) & 1 for i in range(128)],
                "receiver_message": run.receiver.message.hex(),
            },
            "device_round_1": {
                "seed": run.device_seed,
                "draws": run.device_draws,
                "sender_message": run.sender_message.hex(),
                "k0": keys[0].hex(),
                "k1": keys[1].hex(),
            },
            "server_round_2": {"k_Delta": run.server_keys.chosen.hex()},
            "instances": [_instance(run, index) for index in range(_INSTANCES)],
            "hash_to_point": [_hash_to_point(parts) for parts in ((b"",), (b"one", b"two"), (bytes(32), bytes(32)))],
            "refused_points": [_refused(point, why) for point, why in _BAD_POINTS],
        },
    )


def _instance(run: BaseOt, index: int) -> Json:
    at = 32 * index
    choice = run.receiver.delta[index // 8] >> (index % 8) & 1
    exponent = run.receiver.exponents[at : at + 32]
    pair = [run.receiver.message[2 * at + offset : 2 * at + offset + 32] for offset in (0, 32)]
    public = run.sender_message[at : at + 32]
    hashes = [_h(run, index, x, pair[1 - x]) for x in (0, 1)]
    masks = [group.add(pair[x], hashes[x]) for x in (0, 1)]
    assert masks[choice] == group.base_times(exponent)
    scalar = sodium.crypto_core_ed25519_scalar_reduce(bytes.fromhex(run.device_draws[index]["value"]))
    return {
        "instance": index,
        "c": choice,
        "b": exponent.hex(),
        "r0": pair[0].hex(),
        "r1": pair[1].hex(),
        "H_0(r1)": hashes[0].hex(),
        "H_1(r0)": hashes[1].hex(),
        "r0 + H_0(r1)": masks[0].hex(),
        "r1 + H_1(r0)": masks[1].hex(),
        "a": scalar.hex(),
        "A": public.hex(),
        "a(r0 + H_0(r1))": group.times(scalar, masks[0]).hex(),
        "a(r1 + H_1(r0))": group.times(scalar, masks[1]).hex(),
        "k0": run.device_keys.zeros[KEY_BYTES * index : KEY_BYTES * (index + 1)].hex(),
        "k1": run.device_keys.ones[KEY_BYTES * index : KEY_BYTES * (index + 1)].hex(),
        "bA": group.times(exponent, public).hex(),
        "k_c": run.server_keys.chosen[KEY_BYTES * index : KEY_BYTES * (index + 1)].hex(),
    }


def _h(run: BaseOt, index: int, choice: int, point: bytes) -> bytes:
    where = index.to_bytes(2, "big") + bytes([choice])
    return group.hash_to_point("tandem base-ot hash v1", run.context.enrolment_id, run.context.base_ot_id, where, point)


def _hash_to_point(parts: tuple[bytes, ...]) -> Json:
    label = "tandem base-ot hash v1"
    digest = tagged_hash_512(label, *parts)
    return {
        "label": label,
        "parts": [part.hex() for part in parts],
        "H512": digest.hex(),
        "from_uniform(first half)": sodium.crypto_core_ed25519_from_uniform(digest[:32]).hex(),
        "from_uniform(second half)": sodium.crypto_core_ed25519_from_uniform(digest[32:]).hex(),
        "point": group.hash_to_point(label, *parts).hex(),
    }


def _refused(point: bytes, why: str) -> Json:
    try:
        group.checked_point(point, Blame.PEER)
    except ProtocolAbort as abort:
        return {"point": point.hex(), "why": why, "refused": abort.reason}
    raise AssertionError(f"taken: {why}")
