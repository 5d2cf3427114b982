"""The extension sender (server): W_j = V_j ⊕ u_j·Δ, and the check of the receiver's proof.

    W_i = G(k_{Δ_i}) ⊕ Δ_i·U_i                    for each column i
    accept iff  R·W ⊕ W_tail = Y ⊕ x⊗Δ            (SoftSpokenOT, CRYPTO 2022, figure 7, k = 1)

A receiver whose column i is inconsistent passes only by guessing Δ_i: a failed check reveals a wrong guess, a
passed one a right guess. So the verdict must be durable, and Δ erased after a failure, before anybody is told.
"""

from __future__ import annotations

import hmac

import numpy as np

from mpc.ot.expansion import CHECK_ROWS, TAIL_BITS, expand, row_bytes
from mpc.ot.keys import KAPPA, SenderBaseKeys
from mpc.primitives.aes import WORD, Blocks, blocks_from_bytes
from mpc.primitives.bit_matrix import masks_from_bits, multiply, transpose_128, unpack


def extend(keys: SenderBaseKeys, stream_key: bytes, received_u: bytes, choice_bits: int) -> Blocks:
    """W rows, shape (choice_bits + 128, 2). `received_u` must have 128·(choice_bits + 128)/8 bytes."""
    if len(received_u) != KAPPA * row_bytes(choice_bits):
        raise ValueError("U does not fit the number of choice bits; the message decoder checks this")
    columns = expand(stream_key, keys.chosen, choice_bits)
    u = np.frombuffer(received_u, dtype=WORD).reshape(KAPPA, -1)
    columns ^= u & masks_from_bits(unpack(keys.delta))[:, None]
    return transpose_128(columns)


def proof_is_valid(keys: SenderBaseKeys, w: Blocks, challenge: bytes, received_x: bytes, received_y: bytes) -> bool:
    """The check; compares in constant time."""
    bits = len(w) - TAIL_BITS
    expected = multiply(challenge, CHECK_ROWS, w[:bits])
    expected ^= w[bits:]
    # x ⊗ Δ: row r is x_r·Δ
    outer = masks_from_bits(unpack(received_x))[:, None] & blocks_from_bytes(keys.delta)
    claimed = blocks_from_bytes(received_y) ^ outer
    return hmac.compare_digest(expected.tobytes(), claimed.tobytes())
