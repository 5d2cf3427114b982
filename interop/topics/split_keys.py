"""Splitting a key whose primes are given, and refreshing the halves."""

from __future__ import annotations

from typing import Any

from interop.drawing import Draws
from interop.enrolled import CREDENTIAL_ID
from interop.given_keys import given_key
from interop.notation import Json, topic
from mpc.errors import DecodeError
from mpc.login.authenticator_data import ALGORITHMS, cose_rsa_key
from mpc.threshold_rsa.shares import KeyShare, refresh_offset, refreshed, share_bits, share_bytes, split

_SIZES = (2048, 3072, 4096)


def vectors() -> Json:
    return topic(
        "Split keys",
        "d1 + d2 = d over the integers. A share is written as version 1 ‖ sign (1: negative) ‖ magnitude at a fixed "
        "width. Each half is refreshed three times; the sum stays.",
        ["docs/protocol.md 3", "docs/protocol.md 5", "docs/protocol.md 8"],
        {"keys": [_key(bits) for bits in _SIZES]},
    )


def _key(bits: int) -> Json:
    key = given_key(bits)
    draws = Draws(f"tandem vectors: split key of {bits} bits")
    with draws.named("d2, of which the highest B bits count") as drawn:
        device, server = split(draws, key.public, key.d)
    refreshes, at_end = _refreshes(draws, device, server)
    assert at_end[0].value + at_end[1].value == key.d
    return {
        "bits": bits,
        **key.shown(),
        "key_id": key.public.key_id.hex(),
        "cose": {
            str(algorithm): cose_rsa_key(algorithm, key.public.modulus, key.public.exponent).hex()
            for algorithm in ALGORITHMS
        },
        "B": share_bits(key.public),
        "share_bytes": share_bytes(key.public),
        "seed": draws.seed,
        "draws": drawn,
        "d1": device.to_bytes().hex(),
        "d2": server.to_bytes().hex(),
        "refreshes": refreshes,
        "refused_shares": _refused(device),
    }


def _refreshes(draws: Draws, device: KeyShare, server: KeyShare) -> tuple[list[Json], tuple[KeyShare, KeyShare]]:
    steps: list[Json] = []
    for _ in range(3):
        with draws.named("sid", "rho") as drawn:
            sid, rho = draws.bytes(32), draws.bytes(32)
        offset = refresh_offset(device.key, sid, rho, CREDENTIAL_ID)
        device, server = refreshed(device, -offset), refreshed(server, offset)
        steps.append(
            {
                "draws": drawn,
                "credential_id": CREDENTIAL_ID.hex(),
                "r_d": offset.to_bytes((share_bits(device.key) + 7) // 8, "big").hex(),
                "d1": device.to_bytes().hex(),
                "d2": server.to_bytes().hex(),
            }
        )
    return steps, (device, server)


def _refused(share: KeyShare) -> list[Json]:
    good = share.to_bytes()
    short = (2 ** (share.key.bits - 1) - 1).to_bytes(len(good) - 2, "big")
    cases: list[tuple[bytes, str]] = [
        (b"\x02" + good[1:], "another version"),
        (good[:1] + b"\x02" + good[2:], "a sign that is neither 0 nor 1"),
        (good[:-1], "a byte too short"),
        (good[:2] + short, "a magnitude shorter than N"),
    ]
    return [_refusal(share, data, why) for data, why in cases]


def _refusal(share: KeyShare, data: bytes, why: str) -> dict[str, Any]:
    try:
        KeyShare.from_bytes(share.key, data)
    except DecodeError as refusal:
        return {"share": data.hex(), "why": why, "field": refusal.field}
    raise AssertionError(f"taken: {why}")
