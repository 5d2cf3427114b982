"""Bits as a picture: a PNG file with two colours (ISO/IEC 15948), so that a share can be looked at."""

from __future__ import annotations

import struct
import zlib

Colour = tuple[int, int, int]


def bit_image(bits: bytes, count: int, *, width: int, zero: Colour, one: Colour) -> bytes:
    """A PNG, one pixel a bit, `width` bits a row, in reading order.

    `bits` holds `count` bits, least significant first; pixels after the last bit have the colour of 0.
    Raises ValueError if there are fewer bits than `count` or a size is not above 0.
    """
    if count <= 0 or width <= 0 or len(bits) * 8 < count:
        raise ValueError("there must be at least one bit, and no fewer than count")
    rows = bytearray()
    for start in range(0, count, width):
        row = 0
        for index in range(start, start + width):
            # PNG packs the leftmost pixel into the most significant bit, unlike our shares.
            bit = bits[index // 8] >> (index % 8) & 1 if index < count else 0
            row = row << 1 | bit
        row_bytes = (width + 7) // 8
        rows += b"\0" + (row << (row_bytes * 8 - width)).to_bytes(row_bytes, "big")  # filter type 0: none
    height = (count + width - 1) // width
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0))  # 1 bit deep, with palette
        + _chunk(b"PLTE", bytes(zero) + bytes(one))
        + _chunk(b"IDAT", zlib.compress(bytes(rows), 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
