"""The PRG of the extension and the geometry shared by its two sides.

    G(k)_c = π(k ⊕ c) ⊕ k ⊕ c        c = 0, 1, …; as u64 little-endian in bytes 8–15

π is AES-128 under a key that is fresh for each login (it hashes the base-OT id, the index and the device's
nonce), so a device that was restored to an old state still never repeats a stream.
"""

from __future__ import annotations

import numpy as np

from mpc.ot.keys import KEY_BYTES
from mpc.parameters import TANDEM_SUITE_1
from mpc.primitives.aes import WORD, Blocks, Permutation, blocks_from_bytes, ctr_stream
from mpc.primitives.hashing import tagged_hash

CHECK_ROWS = TANDEM_SUITE_1.check_rows
TAIL_BITS = CHECK_ROWS
"""Extra random OTs that hide the check's linear combinations; they never label a wire."""
PROOF_X_BYTES = CHECK_ROWS // 8
PROOF_Y_BYTES = CHECK_ROWS * KEY_BYTES


def row_bytes(choice_bits: int) -> int:
    """Bytes of one column of U: choice bits and tail."""
    return (choice_bits + TAIL_BITS) // 8


def expand(stream_key: bytes, keys: bytes, choice_bits: int) -> Blocks:
    """G of each 16-byte key: shape (len(keys)/16, (choice_bits + 128)/64) words.

    `choice_bits` must be a multiple of 128. All keys go through π in one call.
    """
    seeds = blocks_from_bytes(keys)
    blocks = np.empty((len(seeds), (choice_bits + TAIL_BITS) // 128, 2), dtype=WORD)
    blocks[:, :, 0] = seeds[:, None, 0]
    blocks[:, :, 1] = seeds[:, None, 1] ^ np.arange(blocks.shape[1], dtype=WORD)
    expanded = Permutation(stream_key)(blocks)
    expanded ^= blocks
    return expanded.reshape(len(seeds), -1)


def stream_key(base_ot_id: bytes, ot_index: int, device_nonce: bytes) -> bytes:
    """π's key for one login."""
    return tagged_hash("tandem ot-prg v1", base_ot_id, ot_index.to_bytes(8, "big"), device_nonce)[:16]


def challenge(message_digest: bytes, profile_digest: bytes, u_digest: bytes, choice_bits: int) -> bytes:
    """R: 128 packed rows of `choice_bits` bits, row-major. Fiat–Shamir over everything sent before the proof."""
    key = tagged_hash("tandem ot-check v1", message_digest, profile_digest, u_digest)[:16]
    return ctr_stream(key, CHECK_ROWS * choice_bits // 8)
