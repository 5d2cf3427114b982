"""An iris code with its mask, as OpenIris makes them, and its reduction to a length that the protocol compares.

OpenIris writes a template as a JSON object with `iris_codes`, `mask_codes` and `iris_code_version`. Both codes are
base64 of numpy's `packbits` (the first bit of a byte is its most significant one) of an array of shape (rows, columns,
wavelets, 2) in C order, the last axis being the real and the imaginary part: bit ((r·C + c)·W + w)·2 + p. In the mask
1 means usable. 16 × 200 × 2 × 2 makes 12,800 bits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.code import BinaryCode
from device_sdk.biometrics.errors import EncodingError

Bits = NDArray[np.uint8]

OPENIRIS_SHAPE: Final = (16, 200, 2, 2)
REDUCED_COLUMNS: Final = 64
_REDUCED_ROWS: Final = {2048: 8, 4096: 16}
_TEXT_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IrisCode:
    """`code` and `mask`: uint8 0 and 1, shape (rows, columns, wavelets, 2); a column is an angle. 1 in `mask`: usable.

    Raises EncodingError `wrong_shape`, `not_binary`. The repr shows sizes only.
    """

    code: Bits
    mask: Bits

    def __post_init__(self) -> None:
        for name in ("code", "mask"):
            array = np.asarray(getattr(self, name))
            if array.dtype.kind not in "biu" or not bool(np.all((array == 0) | (array == 1))):
                raise EncodingError("not_binary", f"the {name} holds a value other than 0 and 1")
            if array.ndim != 4 or array.shape[3] != 2 or not 0 < array.size <= 1 << 16:
                raise EncodingError("wrong_shape", f"the {name} must have shape (rows, columns, wavelets, 2)")
            frozen = np.frombuffer(array.astype(np.uint8).tobytes(), dtype=np.uint8).reshape(array.shape)
            object.__setattr__(self, name, frozen)
        if self.code.shape != self.mask.shape:
            raise EncodingError("wrong_shape", "code and mask have different shapes")

    @classmethod
    def from_openiris(
        cls, template: Mapping[str, Any] | str | bytes, shape: tuple[int, int, int, int] = OPENIRIS_SHAPE
    ) -> IrisCode:
        """From an OpenIris template: the JSON text, or the object it stands for. `shape` is not in the file.

        Raises EncodingError `wrong_type` for what is none, `wrong_shape` for other lengths than `shape` has.
        """
        try:
            if isinstance(template, (str, bytes)):
                document: Any = json.loads(template) if len(template) <= _TEXT_MAX else None
            else:
                document = template
            packed = [base64.b64decode(document[name], validate=True) for name in ("iris_codes", "mask_codes")]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise EncodingError(
                "wrong_type", "this is no OpenIris template: iris_codes, mask_codes in base64"
            ) from None
        count = int(np.prod(shape))
        arrays = []
        for one in packed:
            bits = np.unpackbits(np.frombuffer(one, dtype=np.uint8))
            if len(one) != (count + 7) // 8 or bool(np.any(bits[count:])):
                raise EncodingError("wrong_shape", f"an iris code of shape {shape} has {(count + 7) // 8} bytes")
            arrays.append(bits[:count].reshape(shape))
        return cls(arrays[0], arrays[1])

    def to_openiris(self, version: str = "v3.0") -> dict[str, str]:
        """The inverse of `from_openiris`."""
        code, mask = (base64.b64encode(np.packbits(one).tobytes()).decode() for one in (self.code, self.mask))
        return {"iris_codes": code, "mask_codes": mask, "iris_code_version": version}

    def turned(self, columns: int) -> IrisCode:
        """As the eye turned by so many columns would give it; the first column follows the last."""
        return IrisCode(np.roll(self.code, columns, axis=1), np.roll(self.mask, columns, axis=1))

    def reduced(self, code_bits: int) -> BinaryCode:
        """2,048 or 4,096 of the bits, column by column: bit ((c·R + r)·W + w)·2 + p, 64 columns.

        Reduced column c is column ⌊c·C/64⌋. 4,096 bits take every row of 16, 2,048 every second one. Neighbouring
        columns and rows of an iris code say much the same, so this loses less than its length. Raises EncodingError
        `wrong_shape` for other lengths, or a code that is not 16 rows of two wavelets and at least 64 columns.
        """
        rows, columns, wavelets, _ = self.code.shape
        if code_bits not in _REDUCED_ROWS or rows != 16 or wavelets != 2 or columns < REDUCED_COLUMNS:
            raise EncodingError("wrong_shape", "2,048 or 4,096 bits, from 16 rows, two wavelets and 64 columns or more")
        chosen_rows = np.arange(0, rows, rows // _REDUCED_ROWS[code_bits])
        chosen_columns = np.arange(REDUCED_COLUMNS) * columns // REDUCED_COLUMNS
        bits, mask = (
            one[np.ix_(chosen_rows, chosen_columns)].transpose(1, 0, 2, 3).reshape(-1) for one in (self.code, self.mask)
        )
        return BinaryCode(bits, mask)

    def __repr__(self) -> str:
        return f"IrisCode(shape {self.code.shape})"


def fractional_distance(one: IrisCode, other: IrisCode) -> float:
    """Share of differing bits among those usable in both; 1 if there are none. For captures on one device."""
    usable = one.mask & other.mask
    count = int(usable.sum())
    return float(((one.code ^ other.code) & usable).sum()) / count if count else 1.0
