"""Iris codes as an encoder for the profiles iris-2048 and iris-4096."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from device_sdk.biometrics.code import BinaryCode
from device_sdk.biometrics.encoder import Agree, consistent, majority, require_captures
from device_sdk.biometrics.errors import EncodingError
from device_sdk.biometrics.iris.iris_code import IrisCode, fractional_distance

_ALIGNED_COLUMNS: Final = 15
"""How far captures of an enrolment are turned to fit the first one, in columns of the full code: 27° of 200."""


class IrisEncoder:
    """Reduces iris codes to 2,048 or 4,096 bits with their masks.

    A sample is an `IrisCode` or an OpenIris template (JSON text or the object). A probe needs no turning: the circuit
    tries the rotations of the profile. Raises ValueError for another `code_bits`.
    """

    def __init__(self, code_bits: int = 2048) -> None:
        if code_bits not in (2048, 4096):
            raise ValueError("code_bits must be 2048 or 4096")
        self._code_bits = code_bits

    @property
    def encoder_id(self) -> str:
        return f"openiris-16x200x2-v1/{self._code_bits}"

    @property
    def code_bits(self) -> int:
        return self._code_bits

    @property
    def masked(self) -> bool:
        return True

    def encode(self, sample: Any) -> BinaryCode:
        """The probe of one capture. Raises EncodingError."""
        return _iris(sample).reduced(self._code_bits)

    def enrol(self, samples: Sequence[Any], agree: Agree | None = None) -> BinaryCode:
        """The majority of three or more captures, each first turned to where it fits the first one best.

        Raises EncodingError, InconsistentCaptures.
        """
        require_captures(len(samples))
        first, *others = [_iris(sample) for sample in samples]
        turns = range(-_ALIGNED_COLUMNS, _ALIGNED_COLUMNS + 1)
        aligned = [
            min(map(other.turned, turns), key=lambda turned: fractional_distance(first, turned)) for other in others
        ]
        codes = [iris.reduced(self._code_bits) for iris in (first, *aligned)]
        return majority(codes if agree is None else consistent(codes, agree))

    def __repr__(self) -> str:
        return f"IrisEncoder({self.encoder_id})"


def _iris(sample: Any) -> IrisCode:
    if isinstance(sample, IrisCode):
        return sample
    if isinstance(sample, (str, bytes, dict)):
        return IrisCode.from_openiris(sample)
    raise EncodingError("wrong_type", "a sample must be an IrisCode or an OpenIris template")
