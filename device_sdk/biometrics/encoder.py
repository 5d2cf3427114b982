"""What an encoder is, and how several captures become one template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Final, Protocol

import numpy as np

from device_sdk.biometrics.code import BinaryCode
from device_sdk.biometrics.errors import EncodingError
from device_sdk.errors import InconsistentCaptures

CAPTURES_MIN: Final = 3

Agree = Callable[[BinaryCode, BinaryCode], bool]
"""Whether two codes are near enough to be of one person: the profile's own rule."""


class Encoder(Protocol):
    """Turns what a sensor or a model gives into a binary code. Pure: the same sample gives the same code.

    An encoder keeps no sample and writes nothing. It knows no secret: everything that shapes the code is
    public and stands behind `encoder_id`, so that an old template is never compared with a new kind of probe.
    """

    @property
    def encoder_id(self) -> str:
        """Names the code this encoder makes; two encoders with one id give the same bits for one sample."""

    @property
    def code_bits(self) -> int:
        """n, the length of every code."""

    @property
    def masked(self) -> bool:
        """Whether every code carries a mask (True) or none does (False)."""

    def encode(self, sample: Any) -> BinaryCode:
        """The probe of one capture. Raises EncodingError."""

    def enrol(self, samples: Sequence[Any], agree: Agree | None = None) -> BinaryCode:
        """The template of three or more captures, once they agree with each other.

        `agree` guards an enrolment against a capture of another person, or one too poor to be found again; an
        encoder may leave out captures that do not fit, or refuse the set. Only who has judged the captures already
        leaves `agree` out. Raises EncodingError, InconsistentCaptures.
        """


def require_captures(count: int) -> None:
    """Raises EncodingError `too_few_captures` below three: two captures that differ have no majority."""
    if count < CAPTURES_MIN:
        raise EncodingError("too_few_captures", f"enrolment needs {CAPTURES_MIN} captures, got {count}")


def majority(codes: Sequence[BinaryCode]) -> BinaryCode:
    """The bit-by-bit majority of three or more codes, all masked or all not.

    Without masks: a tie, possible for an even number of codes, goes to the first code.
    With masks: a bit is usable where more than half of the codes call it usable; only those vote; a tie goes
    to the first of them. Unusable bits are 0 in the result.

    Raises EncodingError: `too_few_captures`, `wrong_shape`, `mask_missing`.
    """
    require_captures(len(codes))
    if len({code.code_bits for code in codes}) != 1:
        raise EncodingError("wrong_shape", "captures have codes of different lengths")
    if len({code.mask is None for code in codes}) != 1:
        raise EncodingError("mask_missing", "some captures have a mask and some have none")

    bits = np.stack([code.bits for code in codes]).astype(np.int64)
    masks = [code.mask for code in codes if code.mask is not None]
    usable = np.stack(masks).astype(np.int64) if masks else np.ones_like(bits)

    voters = usable.sum(axis=0)
    balance = 2 * (bits * usable).sum(axis=0) - voters  # ones minus zeros
    # argmax gives the first usable code of each column; a column that nobody can use is cleared below.
    first = bits[usable.argmax(axis=0), np.arange(bits.shape[1])]
    vote = np.where(balance == 0, first, balance > 0).astype(np.uint8)
    if not masks:
        return BinaryCode(vote)
    mask = (2 * voters > len(codes)).astype(np.uint8)
    return BinaryCode(vote & mask, mask)


def consistent(codes: Sequence[BinaryCode], accepts: Agree) -> Sequence[BinaryCode]:
    """The same codes, once `accepts` has said yes to every pair.

    Guards an enrolment against a capture of another finger, or one too poor to be found again.
    Raises InconsistentCaptures, naming the two captures by position, counted from 1.
    """
    for (i, first), (j, second) in combinations(enumerate(codes, start=1), 2):
        if not accepts(first, second):
            raise InconsistentCaptures(f"enrolment captures {i} and {j} do not look alike; capture again", (i, j))
    return codes
