"""Binary codes from float embeddings: whiten with public constants, project, keep the signs.

Every step after the first rounding is integer arithmetic, so that an implementation in any language gives the
same bits. `docs/encoders.md` states the steps for such an implementation.

The whitening is there for security, not for taste: without it the probe sign(R · first principal component)
is near everybody. The near-Gaussian matrix leaves the adversary no coordinate axis to exploit either.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from device_sdk.biometrics.code import BinaryCode
from device_sdk.biometrics.encoder import Agree, consistent, require_captures
from device_sdk.biometrics.errors import EncodingError
from device_sdk.biometrics.projection_constants import UNIT, Integers, ProjectionConstants
from device_sdk.errors import InconsistentCaptures

_MATRIX_LABEL: Final = b"tandem sign-projection v1"
_SAMPLE_BITS: Final = 24
_CAPTURES_MAX: Final = 1024


class SignProjection:
    """An encoder for embeddings, such as those of a face or voice network.

    `mean` (dimensions,) and `whitening` (dimensions, dimensions), floats, are public and come from a large
    population of embeddings normalised to length 1: whitening · (x - mean) has about unit covariance.
    `seed_label` names the projection matrix. Dimensions are 1 to 1,024, `code_bits` 1 to 65,536.
    A sample is a float array (dimensions,), of any length but zero: it is normalised first.

    Raises ValueError for constants out of range; see `ProjectionConstants`.
    """

    __slots__ = ("_constants", "_encoder_id", "_matrix")

    def __init__(self, dimensions: int, code_bits: int, mean: ArrayLike, whitening: ArrayLike, seed_label: str) -> None:
        self._use(ProjectionConstants.quantised(dimensions, code_bits, mean, whitening, seed_label))

    @classmethod
    def from_constants(cls, constants: ProjectionConstants) -> SignProjection:
        """From constants that are integers already."""
        encoder = cls.__new__(cls)
        encoder._use(constants)
        return encoder

    @classmethod
    def load(cls, path: str | Path) -> SignProjection:
        """From a file that `save` wrote. Raises ValueError or OSError as `ProjectionConstants.load` does."""
        return cls.from_constants(ProjectionConstants.load(path))

    def save(self, path: str | Path) -> None:
        """Writes the public constants as .npz."""
        self._constants.save(path)

    @property
    def constants(self) -> ProjectionConstants:
        """The public constants as integers."""
        return self._constants

    @property
    def encoder_id(self) -> str:
        """`sign-projection-v1:` and the first 16 hex digits of the digest over all public constants."""
        return self._encoder_id

    @property
    def code_bits(self) -> int:
        """n, the length of every code."""
        return self._constants.code_bits

    @property
    def masked(self) -> bool:
        """False: a mask would be the adversary's to choose, and embeddings need none."""
        return False

    def encode(self, sample: ArrayLike) -> BinaryCode:
        """The code of one embedding.

        Raises EncodingError: `wrong_type`, `wrong_shape`, `not_finite`, `zero_embedding`, `no_information`.
        """
        return self._code(self._unit_embedding(sample))

    def enrol(self, samples: Sequence[Any], agree: Agree | None = None) -> BinaryCode:
        """The code of the mean of three or more embeddings, each normalised first; all must agree pairwise.

        Raises EncodingError as `encode` does, and `too_few_captures`; InconsistentCaptures where the mean of
        the normalised embeddings is shorter than one half. That bound guards the arithmetic; whether the
        captures are of one person is for `consistent` to say.
        """
        require_captures(len(samples))
        if len(samples) > _CAPTURES_MAX:
            raise EncodingError("wrong_shape", f"enrolment takes at most {_CAPTURES_MAX} captures")
        if agree is not None:
            consistent([self.encode(sample) for sample in samples], agree)
        total = np.zeros(self._constants.dimensions, dtype=np.int64)
        for sample in samples:
            total += self._unit_embedding(sample)
        if 2 * math.isqrt(int(np.dot(total, total))) < len(samples) * UNIT:
            raise InconsistentCaptures
        return self._code(_normalised(total))

    def __repr__(self) -> str:
        sizes = f"{self._constants.dimensions} dimensions, {self.code_bits} bits"
        return f"SignProjection({self.encoder_id}, {sizes})"

    def _use(self, constants: ProjectionConstants) -> None:
        self._constants = constants
        self._encoder_id = f"sign-projection-v1:{constants.digest().hex()[:16]}"
        self._matrix = projection_matrix(constants.label, constants.dimensions, constants.code_bits)

    def _unit_embedding(self, sample: ArrayLike) -> Integers:
        array: NDArray[Any] = np.asarray(sample)
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise EncodingError("wrong_type", "an embedding must be an array of floats of at most 64 bits")
        if array.shape != (self._constants.dimensions,):
            shape = (self._constants.dimensions,)
            raise EncodingError("wrong_shape", f"an embedding must have shape {shape}")
        return _normalised(_quantised(array.astype(np.float64)))

    def _code(self, unit: Integers) -> BinaryCode:
        # With D <= 1024 dimensions nothing overflows 63 bits, in any order of summation: unit and mean are
        # each at most 2^20 + 2^10 or so long and a row of the whitening at most 2^22 sqrt(D), so an entry of
        # `whitened` is below 2^48.01 (Cauchy-Schwarz), and a projection below 16 * D * 2^48.01 <= 2^62.01.
        whitened = self._constants.whitening @ (unit - self._constants.mean)
        if not bool(np.any(whitened)):
            raise EncodingError("no_information", "this embedding is the population mean; capture again")
        return BinaryCode((self._matrix @ whitened >= 0).astype(np.uint8))


def projection_matrix(label: str, dimensions: int, code_bits: int) -> NDArray[np.int8]:
    """R, int8 (code_bits, dimensions): entry (b, j) is popcount(w) - 16 for 32 bits w of a SHAKE-256 stream.

    The stream is SHAKE-256("tandem sign-projection v1" ‖ label ‖ dimensions as u32 ‖ code_bits as u32), the
    integers little-endian; w is its bytes 4(bD + j) to 4(bD + j) + 3, D the dimensions. Entries lie in
    [-16, 16], with mean 0 and variance 8.
    """
    seed = _MATRIX_LABEL + label.encode("ascii")
    seed += dimensions.to_bytes(4, "little") + code_bits.to_bytes(4, "little")
    stream = hashlib.shake_256(seed).digest(4 * dimensions * code_bits)
    entries: NDArray[np.int8] = np.bitwise_count(np.frombuffer(stream, dtype="<u4")).astype(np.int8)
    entries -= 16
    return entries.reshape(code_bits, dimensions)


def _quantised(embedding: NDArray[np.float64]) -> Integers:
    """Times the power of two that puts the largest entry into [2^23, 2^24), rounded half to even."""
    if not bool(np.all(np.isfinite(embedding))):
        raise EncodingError("not_finite", "an embedding holds NaN or infinity; capture again")
    largest = float(np.max(np.abs(embedding)))
    if largest == 0:
        raise EncodingError("zero_embedding", "an embedding is all zero; capture again")
    _, exponent = math.frexp(largest)
    # Multiplying by a power of two is exact; what becomes subnormal here rounds to 0 anyway.
    return np.rint(np.ldexp(embedding, _SAMPLE_BITS - exponent)).astype(np.int64)


def _normalised(vector: Integers) -> Integers:
    """The vector with length 2^20: q becomes floor((2^21 q + N) / 2N), N = isqrt(sum of q^2).

    For vectors at least 2^19 long with entries below 2^31, so that N is exact to 2^-19 and nothing overflows.
    """
    length = math.isqrt(int(np.dot(vector, vector)))
    return (2 * UNIT * vector + length) // (2 * length)
