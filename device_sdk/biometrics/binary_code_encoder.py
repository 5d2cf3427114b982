"""For sensors and matchers that give a binary code themselves, as iris encoders do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from device_sdk.biometrics.code import CODE_BITS_MAX, BinaryCode
from device_sdk.biometrics.encoder import Agree, consistent, majority
from device_sdk.biometrics.errors import EncodingError


@dataclass(frozen=True, slots=True)
class BinaryCodeEncoder:
    """Takes codes as they are and enrols by majority.

    A sample is a `BinaryCode`, or, where `masked` is False, a one-dimensional array of `code_bits` entries
    0 and 1. Give `encoder_id` a name of your own that changes whenever the maker of the codes changes.

    Raises ValueError for a `code_bits` outside 1 to 65,536 or an empty `encoder_id`.
    """

    code_bits: int
    masked: bool = False
    encoder_id: str = "binary-code-v1"

    def __post_init__(self) -> None:
        if not 1 <= self.code_bits <= CODE_BITS_MAX:
            raise ValueError(f"code_bits must be from 1 to {CODE_BITS_MAX}")
        if not self.encoder_id:
            raise ValueError("encoder_id must not be empty")

    def encode(self, sample: Any) -> BinaryCode:
        """The sample as a checked code.

        Raises EncodingError: `wrong_type`, `wrong_shape`, `not_binary`, `mask_missing`, and
        `mask_unexpected`, because dropping a mask silently would compare bits that mean nothing.
        """
        code = sample if isinstance(sample, BinaryCode) else BinaryCode(sample)
        if code.code_bits != self.code_bits:
            raise EncodingError("wrong_shape", f"expected {self.code_bits} bits, got {code.code_bits}")
        if self.masked and code.mask is None:
            raise EncodingError("mask_missing", "this encoder needs a BinaryCode with a mask")
        if not self.masked and code.mask is not None:
            raise EncodingError("mask_unexpected", "this encoder takes codes without a mask")
        return code

    def enrol(self, samples: Sequence[Any], agree: Agree | None = None) -> BinaryCode:
        """The majority of three or more samples, each of which agrees with each other one.

        Raises EncodingError as `encode` and `majority` do, InconsistentCaptures.
        """
        codes = [self.encode(sample) for sample in samples]
        return majority(codes if agree is None else consistent(codes, agree))
