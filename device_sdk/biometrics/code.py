"""The one form in which a biometric reaches the protocol: n bits, and perhaps which of them are usable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_sdk.biometrics.errors import EncodingError

Bits = NDArray[np.uint8]
"""Shape (n,), dtype uint8, every entry 0 or 1."""

CODE_BITS_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BinaryCode:
    """A biometric code: a probe or a template, before it is shared.

    `bits` has shape (n,), 1 <= n <= 65,536, of 0 and 1; booleans and any integer type are taken and kept as
    uint8. `mask`, where the modality has one, has the same shape; 1 means usable. Both are copied and cannot
    be written to. What stands in `bits` where `mask` is 0 means nothing.

    Two codes are never equal by `==`: ask `differing_and_valid`. The repr shows sizes only.

    Raises EncodingError: `wrong_type`, `wrong_shape`, `not_binary`.
    """

    bits: Bits
    mask: Bits | None = None

    def __post_init__(self) -> None:
        bits = _frozen_bits(self.bits, "bits")
        object.__setattr__(self, "bits", bits)
        if self.mask is not None:
            mask = _frozen_bits(self.mask, "mask")
            if mask.shape != bits.shape:
                raise EncodingError("wrong_shape", f"mask has {mask.size} entries for {bits.size} bits")
            object.__setattr__(self, "mask", mask)

    @property
    def code_bits(self) -> int:
        """n, the number of bits."""
        return int(self.bits.size)

    @property
    def valid_bits(self) -> int:
        """How many bits are usable: n without a mask."""
        return self.code_bits if self.mask is None else int(np.count_nonzero(self.mask))

    def packed(self) -> bytes:
        """The bits, LSB first: bit i is bit i mod 8 of byte i div 8; unused bits of the last byte are 0."""
        return np.packbits(self.bits, bitorder="little").tobytes()

    def packed_mask(self) -> bytes | None:
        """The mask, packed as the bits are, or None where there is none."""
        return None if self.mask is None else np.packbits(self.mask, bitorder="little").tobytes()

    @classmethod
    def from_packed(cls, packed: bytes, code_bits: int, packed_mask: bytes | None = None) -> BinaryCode:
        """The inverse of `packed` and `packed_mask`.

        Raises EncodingError: `wrong_shape` for a length that does not belong to `code_bits`, `not_binary`
        for a padding bit that is set (two byte strings must not mean the same code).
        """
        bits = _unpacked(packed, code_bits, "bits")
        return cls(bits, None if packed_mask is None else _unpacked(packed_mask, code_bits, "mask"))

    def __repr__(self) -> str:
        masked = "unmasked" if self.mask is None else "masked"
        return f"BinaryCode({self.code_bits} bits, {masked})"


def differing_and_valid(first: BinaryCode, second: BinaryCode) -> tuple[int, int]:
    """(d, v): how many bits differ, and how many were compared because both codes call them usable.

    For captures that one device holds anyway, that is, during enrolment. Not constant-time.
    Raises EncodingError `wrong_shape` when the codes have different lengths.
    """
    if first.code_bits != second.code_bits:
        raise EncodingError("wrong_shape", f"{first.code_bits} and {second.code_bits} bits do not compare")
    valid = np.ones(first.code_bits, dtype=np.uint8)
    for mask in (first.mask, second.mask):
        if mask is not None:
            valid = valid & mask
    return int(np.count_nonzero((first.bits ^ second.bits) & valid)), int(np.count_nonzero(valid))


def _frozen_bits(values: ArrayLike, name: str) -> Bits:
    try:
        array: NDArray[Any] = np.asarray(values)
    except ValueError as error:  # ragged nested lists
        raise EncodingError("wrong_shape", f"{name} must have one dimension") from error
    if array.dtype.kind not in "biu":
        raise EncodingError("wrong_type", f"{name} must be an array of booleans or integers 0 and 1")
    if array.ndim != 1 or not 1 <= array.size <= CODE_BITS_MAX:
        raise EncodingError("wrong_shape", f"{name} must have one dimension and 1 to {CODE_BITS_MAX} entries")
    if not bool(np.all((array == 0) | (array == 1))):
        raise EncodingError("not_binary", f"{name} holds a value other than 0 and 1")
    # An array over an immutable bytes object: unlike setflags(write=False), this cannot be undone.
    return np.frombuffer(array.astype(np.uint8).tobytes(), dtype=np.uint8)


def _unpacked(packed: bytes, code_bits: int, name: str) -> Bits:
    if not 1 <= code_bits <= CODE_BITS_MAX or len(packed) != (code_bits + 7) // 8:
        raise EncodingError("wrong_shape", f"{len(packed)} bytes of {name} are not {code_bits} bits")
    unpacked = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), bitorder="little")
    if bool(np.any(unpacked[code_bits:])):
        raise EncodingError("not_binary", f"packed {name} have a padding bit set")
    return unpacked[:code_bits]
