"""Domain-separated hashing: every hash says what it is for, and no two inputs share an encoding.

    tagged_hash(label, a, b, …) = SHA-256(len(label) as 1 byte ‖ label ‖ len(a) as 4 bytes big-endian ‖ a ‖ …)

The length prefixes make the encoding injective whatever the parts hold, so no part can borrow bytes of its
neighbour; labels begin with "tandem" and end with a version.
"""

from __future__ import annotations

import hashlib


def tagged_hash(label: str, *parts: bytes) -> bytes:
    """32 bytes that depend on the label, the number of parts and each part."""
    return hashlib.sha256(framed(label, *parts)).digest()


def tagged_hash_512(label: str, *parts: bytes) -> bytes:
    """The same framing under SHA-512; 64 bytes."""
    return hashlib.sha512(framed(label, *parts)).digest()


def tagged_stream(label: str, length_bytes: int, *parts: bytes) -> bytes:
    """`length_bytes` bytes of SHAKE-256 over the same framing."""
    return hashlib.shake_256(framed(label, *parts)).digest(length_bytes)


def framed(label: str, *parts: bytes) -> bytes:
    """The framing itself, for what is signed or bound rather than hashed."""
    name = label.encode("ascii")
    pieces = [len(name).to_bytes(1, "big"), name]
    for part in parts:
        pieces.append(len(part).to_bytes(4, "big"))
        pieces.append(part)
    return b"".join(pieces)
