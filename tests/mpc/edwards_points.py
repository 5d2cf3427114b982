"""Encodings that are no points of the prime-order subgroup of edwards25519, for the tests of the base OT."""

from __future__ import annotations

P = 2**255 - 19
IDENTITY = (1).to_bytes(32, "little")

# RFC 8032: y of the eight points of small order; with either sign bit, also where that is not canonical.
ORDER_8 = (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)
_SMALL_Y = [0, 1, P - 1, P, P + 1, *(int.from_bytes(bytes.fromhex(text), "little") for text in ORDER_8)]
SMALL_ORDER = [(y | sign << 255).to_bytes(32, "little") for y in _SMALL_Y for sign in (0, 1)]
