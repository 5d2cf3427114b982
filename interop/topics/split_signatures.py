"""RS256 and PS256 from two halves: encodings, partial signatures, the share check, the combination."""

from __future__ import annotations

from interop.drawing import Draws
from interop.given_keys import GivenKey, given_key
from interop.notation import Json, number, topic
from mpc.errors import ProtocolAbort
from mpc.primitives import modular
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare, refreshed, split
from mpc.threshold_rsa.signing import combine, partial_signature, share_tag, share_tag_is_valid

_CASES = ((2048, Algorithm.RS256), (2048, Algorithm.PS256), (3072, Algorithm.RS256), (3072, Algorithm.PS256))
_MESSAGE = bytes.fromhex("a1" * 37) + bytes(range(32))


def vectors() -> Json:
    return topic(
        "Split signatures",
        "s1 = (EM^-1)^|d1|, s2 = EM^d2, s = s1·s2, all modulo N. The message has the shape of authenticatorData ‖ "
        "client_data_hash. T1 is drawn here; in a login it is the hash of message 1's statement. RS256 is "
        "deterministic: your signature must be this one. PS256 follows from the salt.",
        ["docs/protocol.md 6", "docs/protocol.md 7", "RFC 8017 9.1.1 and 9.2"],
        {"signatures": [_signature(bits, algorithm) for bits, algorithm in _CASES]},
    )


def _signature(bits: int, algorithm: Algorithm) -> Json:
    key = given_key(bits)
    draws = Draws(f"tandem vectors: {algorithm.name} signature of {bits} bits")
    pss = algorithm is Algorithm.PS256
    with draws.named("d2, of which the highest B bits count", "T1", *(["pss_salt"] if pss else [])) as drawn:
        device, server = split(draws, key.public, key.d)
        statement, salt = draws.bytes(32), draws.bytes(32) if pss else None
    encoded = encode_message(algorithm, _MESSAGE, salt, key.public.bits)
    s1, s2 = partial_signature(device, encoded), partial_signature(server, encoded)
    raised = modular.power(s1, key.public.exponent, key.public.modulus)
    tag = share_tag(key.public, statement, s1)
    assert share_tag_is_valid(key.public, statement, encoded, s2, tag)
    return {
        "algorithm": algorithm.name,
        "cose_algorithm": int(algorithm),
        "N": key.public.modulus_bytes.hex(),
        "e": key.public.exponent,
        "d": number(key.d, key.public),
        "seed": draws.seed,
        "draws": drawn,
        "d1": device.to_bytes().hex(),
        "d2": server.to_bytes().hex(),
        "signed message": _MESSAGE.hex(),
        "EM": number(encoded, key.public),
        "s1": number(s1, key.public),
        "s1^e": number(raised, key.public),
        "y_tag": tag.hex(),
        "s2": number(s2, key.public),
        "s": combine(key.public, encoded, s1, s2).hex(),
        "refused": _refused(key, encoded, statement, device, server),
    }


def _refused(key: GivenKey, encoded: int, statement: bytes, device: KeyShare, server: KeyShare) -> list[Json]:
    """Halves that do not belong together: the server sees it by y_tag, the device by s^e."""
    stale = refreshed(device, -1)
    tag = share_tag(key.public, statement, partial_signature(stale, encoded))
    assert not share_tag_is_valid(key.public, statement, encoded, partial_signature(server, encoded), tag)
    wrong = partial_signature(refreshed(server, 1), encoded)
    try:
        combine(key.public, encoded, partial_signature(device, encoded), wrong)
    except ProtocolAbort as abort:
        reason = abort.reason
    else:
        raise AssertionError("a wrong half was combined")
    return [
        {"about": "d1 − 1 instead of d1", "y_tag": tag.hex(), "server": "share_tag_failed"},
        {"about": "s2 made with d2 + 1", "s2": number(wrong, key.public), "device": reason},
    ]
