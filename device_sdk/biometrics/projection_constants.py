"""The public constants of a sign projection, as the integers that every implementation computes with."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_sdk.biometrics.code import CODE_BITS_MAX

Integers = NDArray[np.int64]

DIMENSIONS_MAX: Final = 1024
"""With at most this many dimensions no sum of an encoding leaves 63 bits; see `sign_projection`."""

UNIT: Final = 1 << 20
"""The length of an embedding of length one, in the integers computed with."""

WHITENING_LIMIT: Final = 1 << 22
"""No entry of the whitening is larger than this."""

_FILE_VERSION: Final = 1
_NOT_OURS: Final = "not a file of sign-projection constants"
_MEAN_TOO_LONG: Final = "mean is longer than 1: it must be the mean of embeddings normalised to length 1"
_DIGEST_LABEL: Final = b"tandem sign-projection constants v1"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ProjectionConstants:
    """What shapes the code of a sign projection. All of it is public; nothing is about one person.

    `mean`: int64 (dimensions,), the mean of normalised embeddings over a population, times 2^20; its length
    is at most 2^20 + 2^10. `whitening`: int64 (dimensions, dimensions), every entry at most 2^22 in size, not
    all 0; only its direction counts, a common factor changes no code. `label`: 1 to 64 printable ASCII
    characters; another label is another projection matrix.

    Raises ValueError where a value is outside these ranges.
    """

    dimensions: int
    code_bits: int
    mean: Integers
    whitening: Integers
    label: str

    def __post_init__(self) -> None:
        if not 1 <= self.dimensions <= DIMENSIONS_MAX:
            raise ValueError(f"dimensions must be from 1 to {DIMENSIONS_MAX}")
        if not 1 <= self.code_bits <= CODE_BITS_MAX:
            raise ValueError(f"code_bits must be from 1 to {CODE_BITS_MAX}")
        if not (1 <= len(self.label) <= 64 and self.label.isascii() and self.label.isprintable()):
            raise ValueError("the seed label must be 1 to 64 printable ASCII characters")
        for name, shape in (("mean", (self.dimensions,)), ("whitening", (self.dimensions, self.dimensions))):
            value: NDArray[Any] = getattr(self, name)
            if value.dtype != np.int64 or value.shape != shape:
                raise ValueError(f"{name} must be int64 with shape {shape}")
            frozen = np.frombuffer(value.astype("<i8").tobytes(), dtype="<i8").reshape(shape)
            object.__setattr__(self, name, frozen)
        # Compare without abs(): the smallest int64 has no positive counterpart.
        if bool(np.any((self.mean > 2 * UNIT) | (self.mean < -2 * UNIT))) or (
            math.isqrt(int(np.dot(self.mean, self.mean))) > UNIT + (1 << 10)
        ):
            raise ValueError(_MEAN_TOO_LONG)
        if bool(np.any((self.whitening > WHITENING_LIMIT) | (self.whitening < -WHITENING_LIMIT))):
            raise ValueError(f"whitening has an entry above {WHITENING_LIMIT}")
        if not bool(np.any(self.whitening)):
            raise ValueError("whitening is all zero")

    @classmethod
    def quantised(
        cls, dimensions: int, code_bits: int, mean: ArrayLike, whitening: ArrayLike, label: str
    ) -> ProjectionConstants:
        """From floats, by whoever makes the constants; users of the constants load the integers.

        Mean: each entry times 2^20, rounded half to even. Whitening: multiplied by the power of two that puts
        its largest entry into [2^21, 2^22), then rounded half to even. Raises ValueError for a wrong shape, a
        value that is not finite, or constants out of range.
        """
        if not 1 <= dimensions <= DIMENSIONS_MAX:
            raise ValueError(f"dimensions must be from 1 to {DIMENSIONS_MAX}")
        mean = _finite(mean, (dimensions,), "mean")
        whitening = _finite(whitening, (dimensions, dimensions), "whitening")
        if bool(np.any(np.abs(mean) > 2)):
            raise ValueError(_MEAN_TOO_LONG)
        _, exponent = math.frexp(float(np.max(np.abs(whitening))))
        return cls(
            dimensions=dimensions,
            code_bits=code_bits,
            mean=np.rint(mean * UNIT).astype(np.int64),
            whitening=np.rint(np.ldexp(whitening, 22 - exponent)).astype(np.int64),
            label=label,
        )

    def digest(self) -> bytes:
        """SHA-256 over all of it.

            "tandem sign-projection constants v1"    35 bytes, ASCII
            dimensions, code_bits                    u32 each
            length of the label, label               u16, ASCII
            mean                                     i64 each
            whitening                                i64 each, row by row

        All integers little-endian, signed ones in two's complement.
        """
        label = self.label.encode("ascii")
        state = hashlib.sha256(_DIGEST_LABEL)
        state.update(self.dimensions.to_bytes(4, "little") + self.code_bits.to_bytes(4, "little"))
        state.update(len(label).to_bytes(2, "little") + label)
        state.update(self.mean.tobytes())
        state.update(self.whitening.tobytes())
        return state.digest()

    def save(self, path: str | Path) -> None:
        """Writes an uncompressed .npz of integers and one string, exactly at `path`."""
        with open(path, "wb") as file:
            np.savez(
                file,
                version=np.int64(_FILE_VERSION),
                dimensions=np.int64(self.dimensions),
                code_bits=np.int64(self.code_bits),
                mean=self.mean,
                whitening=self.whitening,
                label=np.frombuffer(self.label.encode("ascii"), dtype=np.uint8),
            )

    @classmethod
    def load(cls, path: str | Path) -> ProjectionConstants:
        """Reads what `save` wrote; pickled content is refused.

        Raises ValueError for a file that is not one of ours or holds values out of range, OSError where the
        file cannot be read. The file is public but must be the right one: compare `encoder_id`.
        """
        names = {"version", "dimensions", "code_bits", "mean", "whitening", "label"}
        try:
            with np.load(path, allow_pickle=False) as archive:
                if set(archive.files) != names:
                    raise ValueError(_NOT_OURS)
                entries = {name: archive[name] for name in names}
            version, dimensions, code_bits = (
                _integer(entries[name]) for name in ("version", "dimensions", "code_bits")
            )
            label = entries["label"].astype(np.uint8, casting="no").tobytes().decode("ascii")
        except (AttributeError, EOFError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(_NOT_OURS) from error
        if version != _FILE_VERSION:
            raise ValueError(f"constants of version {version}; this release reads {_FILE_VERSION}")
        return cls(dimensions, code_bits, entries["mean"], entries["whitening"], label)

    def __repr__(self) -> str:
        return f"ProjectionConstants({self.dimensions} dimensions, {self.code_bits} bits)"


def _finite(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}")
    if not bool(np.all(np.isfinite(array))):
        raise ValueError(f"{name} holds NaN or infinity")
    return array


def _integer(entry: NDArray[Any]) -> int:
    if entry.dtype != np.int64 or entry.shape != ():
        raise TypeError("expected one int64")
    return int(entry)
