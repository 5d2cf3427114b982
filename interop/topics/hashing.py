"""Framed hashes, the encodings around them, and one-time codes."""

from __future__ import annotations

import hashlib

from authsvc.codes import code_hash, new_code, normalise
from interop.drawing import Draws
from interop.notation import Json, topic
from mpc.primitives import base64url
from mpc.primitives.aes import ctr_stream
from mpc.primitives.bit_matrix import pack, unpack
from mpc.primitives.hashing import framed, tagged_hash, tagged_hash_512, tagged_stream

_FRAMED: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("tandem token v1", (bytes(range(32)),)),
    ("tandem out v1", (b"\x01", b"\xaa" * 32, b"\xbb" * 16)),
    ("tandem audit events v1", ()),
    ("tandem sid v1", (b"", b"", b"")),
    ("tandem sid v1", (b"", b"")),
    ("tandem white v1", (b"ab", b"c")),
    ("tandem white v1", (b"a", b"bc")),
    ("tandem u v1", (bytes(300),)),
)
_TYPED = (
    "7K2QX-0M9TN-4RWB8-ZC3HD",
    "7k2qx0m9tn4rwb8zc3hd",
    " 7K2QX oM9TN 4RWB8 ZC3HD\t",
    "iLoO0-11111-22222-33333",
    "7K2QX–0M9TN–4RWB8–ZC3HD",
    "7K2QX-0M9TN-4RWB8-ZC3H",
    "7K2QX-0M9TN-4RWB8-ZC3HDA",
    "7K2QX-0M9TN-4RWB8-ZC3HU",
    "",
)
_BASE64URL = ("", "AA", "_-8", "TWFuZHk", "AB", "AA==", "A", "A+8", "AA\n", "TWFu ZHk")


def vectors() -> Json:
    return topic(
        "Hashing and small encodings",
        "The framed hash under its three functions, AES-CTR streams, bit order, base64url, one-time codes.",
        ["docs/protocol.md 3", "docs/protocol.md 5"],
        {
            "framed": [
                {
                    "label": label,
                    "parts": [part.hex() for part in parts],
                    "framing": framed(label, *parts).hex(),
                    "H": tagged_hash(label, *parts).hex(),
                    "H512": tagged_hash_512(label, *parts).hex(),
                    "XOF of 50": tagged_stream(label, 50, *parts).hex(),
                }
                for label, parts in _FRAMED
            ],
            "aes_128_ctr": [
                {"key": key.hex(), "bytes": count, "stream": ctr_stream(key, count).hex()}
                for key, count in ((bytes(16), 40), (bytes(range(16)), 64))
            ],
            "bits": [
                {"bits, in order": "".join(map(str, unpack(packed))), "packed": pack(unpack(packed)).hex()}
                for packed in (b"\x01", b"\x80\x01", b"\xf0\x0d")
            ],
            "base64url": [{"text": text, **_base64url(text)} for text in _BASE64URL],
            "one_time_codes": {
                "about": "The server draws 20 bytes and takes 5 bits of each, then stores only the SHA-256 of the 20 "
                "characters. A device sends what was typed; the server normalises it.",
                **_made_code(),
                "typed": [_typed(text) for text in _TYPED],
            },
        },
    )


def _base64url(text: str) -> Json:
    try:
        return {"bytes": base64url.decode(text).hex()}
    except ValueError:
        return {"refused": True}


def _made_code() -> Json:
    draws = Draws("tandem vectors: one-time code")
    with draws.named("characters") as drawn:
        code = new_code(draws)
    return {"seed": draws.seed, "draws": drawn, "alphabet": "0123456789ABCDEFGHJKMNPQRSTVWXYZ", "code": code}


def _typed(text: str) -> Json:
    characters, hashed = normalise(text), code_hash(text)
    if characters is None or hashed is None:
        return {"typed": text, "refused": True}
    assert hashed == hashlib.sha256(characters.encode("ascii")).digest()
    return {"typed": text, "characters": characters, "sha256": hashed.hex()}
