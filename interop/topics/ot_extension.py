"""OT extension with 128 choice bits, its proof of consistency, and two devices that cheat."""

from __future__ import annotations

from interop.drawing import Draws
from interop.enrolled import base_ot
from interop.notation import Json, blocks, topic
from mpc.ot import extension_receiver, extension_sender
from mpc.ot.expansion import challenge, expand, stream_key
from mpc.primitives.bit_matrix import unpack
from mpc.primitives.hashing import tagged_hash

_BITS = 128
_INDEX = 5


def vectors() -> Json:
    keys = base_ot()
    draws = Draws("tandem vectors: OT extension")
    with draws.named("u, the choice bits", "device_nonce", "T1", "profile digest", "u_tail") as drawn:
        choices, nonce = draws.bytes(_BITS // 8), draws.bytes(32)
        statement, profile = draws.bytes(32), draws.bytes(32)
        key = stream_key(keys.context.base_ot_id, _INDEX, nonce)
        extension = extension_receiver.extend(draws, keys.device_keys, key, choices)
    r = challenge(statement, profile, tagged_hash("tandem u v1", extension.u), _BITS)
    x, y = extension_receiver.prove(extension, r)
    w = extension_sender.extend(keys.server_keys, key, extension.u, _BITS)
    assert extension_sender.proof_is_valid(keys.server_keys, w, r, x, y)
    streams = expand(key, keys.device_keys.zeros + keys.device_keys.ones, _BITS)
    return topic(
        "OT extension and its check",
        "The keys are those of base-ot.json. A login has as many choice bits as its circuit has inputs; here there are "
        "128, so that the matrices can be read. T1 and the profile digest are drawn, not hashed from a message.",
        ["docs/protocol.md 6"],
        {
            "seed": draws.seed,
            "draws": drawn,
            "parameters": {"choice_bits": _BITS, "ot_index": _INDEX, "base_ot_id": keys.context.base_ot_id.hex()},
            "device": {
                "k0": keys.device_keys.zeros.hex(),
                "k1": keys.device_keys.ones.hex(),
                "prg_key": key.hex(),
                "G(k0)": blocks(streams[:128]),
                "G(k1)": blocks(streams[128:]),
                "u and tail": (choices + extension.tail).hex(),
                "U": extension.u.hex(),
                "V, rows": blocks(extension.v),
                "H(tandem u v1)": tagged_hash("tandem u v1", extension.u).hex(),
                "check_key": tagged_hash(
                    "tandem ot-check v1", statement, profile, tagged_hash("tandem u v1", extension.u)
                )[:16].hex(),
                "R": r.hex(),
                "x": x.hex(),
                "Y": y.hex(),
            },
            "server": {
                "Delta": keys.server_keys.delta.hex(),
                "k_Delta": keys.server_keys.chosen.hex(),
                "W, rows": blocks(w),
                "check": True,
            },
            "cheating": [_cheat(statement, profile, key, extension, column) for column in (_column(1), _column(0))],
        },
    )


def _column(bit: int) -> int:
    """The first column at which Delta has this bit, after bit 0, which is always 1."""
    return int(unpack(base_ot().server_keys.delta)[1:].tolist().index(bit)) + 1


def _cheat(
    statement: bytes, profile: bytes, key: bytes, honest: extension_receiver.ReceiverExtension, column: int
) -> Json:
    """One bit of one column of U is another: passes iff Delta is 0 there, which is what the device learns by it."""
    keys = base_ot().server_keys
    u = bytearray(honest.u)
    u[column * len(u) // 128] ^= 1
    r = challenge(statement, profile, tagged_hash("tandem u v1", bytes(u)), _BITS)
    x, y = extension_receiver.prove(honest, r)
    w = extension_sender.extend(keys, key, bytes(u), _BITS)
    return {
        "bit flipped": f"bit 0 of column {column} of U",
        "Delta there": int(unpack(keys.delta)[column]),
        "x": x.hex(),
        "Y": y.hex(),
        "check": extension_sender.proof_is_valid(keys, w, r, x, y),
    }
