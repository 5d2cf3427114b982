"""The extension receiver (device): correlated OT with its choice bits, and the proof that they are consistent.

U_i = G(k0_i) ⊕ G(k1_i) ⊕ (u ‖ tail)         for each of the 128 columns (IKNP, CRYPTO 2003)
V   = G(k0)                                   hence W_j = V_j ⊕ u_j·Δ at the sender
x   = R·u ⊕ tail,   Y = R·V ⊕ V_tail          (SoftSpokenOT, CRYPTO 2022, figure 7, k = 1)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mpc.ot.expansion import CHECK_ROWS, TAIL_BITS, expand
from mpc.ot.keys import KAPPA, ReceiverBaseKeys
from mpc.primitives.aes import WORD, Blocks
from mpc.primitives.bit_matrix import multiply, multiply_vector, transpose_128
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled


@dataclass(frozen=True, slots=True)
class ReceiverExtension(NeverPickled):
    """U to send (packed columns), and what stays: V rows (choices then tail) and the extended choice bits."""

    u: bytes
    v: Blocks = field(repr=False)
    choices: bytes = field(repr=False)
    tail: bytes = field(repr=False)

    @property
    def choice_bits(self) -> int:
        return len(self.choices) * 8

    @property
    def labels(self) -> Blocks:
        """V without the tail: shape (choice_bits, 2)."""
        return self.v[: self.choice_bits]


def extend(rng: Rng, keys: ReceiverBaseKeys, stream_key: bytes, choices: bytes) -> ReceiverExtension:
    """`choices`: packed bits, a multiple of 128 of them. The tail is 128 fresh bits."""
    tail = rng.bytes(TAIL_BITS // 8)
    streams = expand(stream_key, keys.zeros + keys.ones, len(choices) * 8)
    zeros, ones = streams[:KAPPA], streams[KAPPA:]
    u = zeros ^ ones
    u ^= np.frombuffer(choices + tail, dtype=WORD)
    return ReceiverExtension(u=u.tobytes(), v=transpose_128(zeros), choices=choices, tail=tail)


def prove(extension: ReceiverExtension, challenge: bytes) -> tuple[bytes, bytes]:
    """(x, Y): 16 and 2,048 bytes. One proof an extension; a second one would cancel the tail."""
    bits = extension.choice_bits
    x = multiply_vector(challenge, CHECK_ROWS, extension.choices)
    x_masked = bytes(a ^ b for a, b in zip(x, extension.tail, strict=True))
    y = multiply(challenge, CHECK_ROWS, extension.v[:bits])
    y ^= extension.v[bits:]
    return x_masked, y.tobytes()
