"""Bit matrices over GF(2): packing, transposition, multiplication.

Bits are least significant first in their bytes, hence in little-endian words too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpc.primitives.aes import WORD, Blocks

Bits = NDArray[np.uint8]
"""Shape (count,), one bit (0 or 1) an element."""

_LOW_HALVES = tuple(
    (shift, np.uint64(mask))
    for shift, mask in (
        (32, 0x00000000FFFFFFFF),
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    )
)
_GROUPS_AT_A_TIME = 64


def pack(bits: Bits) -> bytes:
    """Bits to bytes, least significant first. The length must be a multiple of 8."""
    return np.packbits(bits, bitorder="little").tobytes()


def unpack(data: bytes) -> Bits:
    """Bytes to bits, least significant first."""
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")


def transpose_128(columns: Blocks) -> Blocks:
    """Rows of a matrix that is given as 128 packed columns.

    `columns`: shape (128, m/64) words, m a multiple of 64; bit j of column i is element (j, i).
    Result: shape (m, 2) words, row j holding its 128 bits.

    Each 64×64 block is transposed by swapping halves, then quarters, and so on (Hacker's Delight, 7-3),
    on all blocks at once: log2(64) passes, no data-dependent step.
    """
    words = columns.shape[1]
    # [half of the 128 columns][column in half][word] -> column index first, everything else side by side.
    work = np.ascontiguousarray(columns.reshape(2, 64, words).transpose(1, 2, 0)).reshape(64, words * 2)
    for distance, low in _LOW_HALVES:
        pairs = work.reshape(32 // distance, 2, distance, words * 2)
        upper, lower = pairs[:, 0], pairs[:, 1]
        # swap the high bits of row r with the low bits of row r + distance
        swap = upper >> np.uint64(distance)
        swap ^= lower
        swap &= low
        lower ^= swap
        swap <<= np.uint64(distance)
        upper ^= swap
    # work[j, word, half] is row 64*word + j, columns of that half.
    return np.ascontiguousarray(work.reshape(64, words, 2).transpose(1, 0, 2)).reshape(words * 64, 2)


def multiply(left: bytes, rows: int, right: Blocks) -> Blocks:
    """left · right over GF(2); `left` has `rows` packed rows of len(right) bits. Shape (rows, 2).

    Four columns of `left` select, together, one of the 16 sums of four rows of `right`; the tables of sums are
    built by doubling, many groups at a time (the "four Russians" method). `left` is public, so indexing a table
    by it reveals nothing; the rows of `right` may be secret and are only added. Integer arithmetic throughout:
    a floating-point product would be exact too, but it wakes the linear-algebra library's thread pool.
    """
    groups = len(right) // 4
    packed = np.ascontiguousarray(np.frombuffer(left, dtype=np.uint8).reshape(rows, groups // 2).T)
    nibbles = np.empty((groups // 2, 2, rows), dtype=np.uint8)
    np.bitwise_and(packed, 15, out=nibbles[:, 0])
    np.right_shift(packed, 4, out=nibbles[:, 1])
    selectors = nibbles.reshape(groups, rows)
    product = np.zeros((rows, 2), dtype=WORD)
    for start in range(0, groups, _GROUPS_AT_A_TIME):
        part = right[4 * start : 4 * (start + _GROUPS_AT_A_TIME)].reshape(-1, 4, 2)
        sums = np.zeros((16, len(part), 2), dtype=WORD)
        for bit in range(4):
            size = 1 << bit
            np.bitwise_xor(sums[:size], part[:, bit], out=sums[size : 2 * size])
        chosen = selectors[start : start + len(part)].astype(np.intp)
        chosen *= len(part)
        chosen += np.arange(len(part))[:, None]
        # One 16-byte element a row: the widest type that take() moves in one piece. Its value is never read.
        picked = sums.view(np.complex128).reshape(-1).take(chosen.reshape(-1)).view(WORD)
        product ^= np.bitwise_xor.reduce(picked.reshape(len(part), rows * 2), axis=0).reshape(rows, 2)
    return product


def multiply_vector(left: bytes, rows: int, vector: bytes) -> bytes:
    """left · vector over GF(2), packed: `rows` bits. Both operands are packed; constant-time in `vector`."""
    matrix = np.frombuffer(left, dtype=np.uint8).reshape(rows, len(vector))
    folded = np.bitwise_xor.reduce(matrix & np.frombuffer(vector, dtype=np.uint8), axis=1)
    return pack(np.bitwise_count(folded) & np.uint8(1))


def masks_from_bits(bits: Bits) -> NDArray[np.uint64]:
    """All-ones words where the bit is 1, zero elsewhere: selection without a branch."""
    return np.negative(bits.astype(WORD))
