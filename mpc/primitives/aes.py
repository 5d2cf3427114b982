"""AES-128 in the two ways the protocol uses it: a fixed-key permutation on many blocks, and a CTR stream.

Blocks are rows of two little-endian 64-bit words: word 0 is bytes 0–7, word 1 is bytes 8–15. One call to the
library works on a whole layer, which is what makes numpy fast enough here.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Blocks = NDArray[np.uint64]
"""Shape (count, 2), dtype '<u8', C-contiguous: one 16-byte block a row."""

WORD = np.dtype("<u8")


class Permutation:
    """π: AES-128 under a public key, used as an ideal permutation. The key is public, so caching is safe."""

    __slots__ = ("_encryptor",)

    def __init__(self, key: bytes) -> None:
        # ECB is the point: π is a permutation applied to blocks that the callers make distinct.
        self._encryptor = Cipher(algorithms.AES128(key), modes.ECB()).encryptor()  # noqa: S305

    def __call__(self, blocks: Blocks) -> Blocks:
        """π of every row; a new array of the same shape."""
        flat = np.ascontiguousarray(blocks)
        # update_into demands 15 bytes of slack behind the result.
        out = np.empty(flat.nbytes + 15, dtype=np.uint8)
        self._encryptor.update_into(flat.reshape(-1).view(np.uint8).data, out.data)
        return out[: flat.nbytes].view(WORD).reshape(flat.shape)


def ctr_stream(key: bytes, length_bytes: int) -> bytes:
    """AES-128-CTR key stream from counter 0, counter 128 bits big-endian (NIST SP 800-38A)."""
    encryptor = Cipher(algorithms.AES128(key), modes.CTR(bytes(16))).encryptor()
    return encryptor.update(bytes(length_bytes))


def blocks_from_bytes(data: bytes) -> Blocks:
    """Read-only rows over `data`, whose length must be a multiple of 16."""
    return np.frombuffer(data, dtype=WORD).reshape(-1, 2)
