"""Any model that gives float embeddings as an encoder, with several captures made into one sturdy template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from device_sdk.biometrics.code import BinaryCode
from device_sdk.biometrics.encoder import CAPTURES_MIN, Agree, require_captures
from device_sdk.biometrics.errors import EncodingError
from device_sdk.biometrics.sign_projection import SignProjection
from device_sdk.errors import InconsistentCaptures

CAPTURES_MAX: Final = 10
PAIR_LIMIT: Final = 0.4
"""Share of the bits in which two captures of one person may differ: far above a threshold for matching, since both
are single captures, and below what nearly all strangers differ in."""


class EmbeddingEncoder:
    """An encoder from a model and the public constants of a sign projection made for it.

    `embed` turns a sample into a float array of the projection's dimensions: a network, or the identity if samples
    are embeddings already. `model_id` names the model and all that happens before it; the encoder's id is
    `model_id/` and the first 16 hex digits of the digest of the constants, so another model or other constants make
    another id. `embed` may raise EncodingError for a sample that cannot be used; it is called once a sample.

    Raises ValueError for a model_id that is not 1 to 60 printable ASCII characters.
    """

    def __init__(self, projection: SignProjection, embed: Callable[[Any], ArrayLike], model_id: str) -> None:
        if not (1 <= len(model_id) <= 60 and model_id.isascii() and model_id.isprintable()):
            raise ValueError("model_id: 1 to 60 printable ASCII characters")
        self._projection = projection
        self._embed = embed
        self._encoder_id = f"{model_id}/{projection.constants.digest().hex()[:16]}"

    @property
    def encoder_id(self) -> str:
        return self._encoder_id

    @property
    def code_bits(self) -> int:
        return self._projection.code_bits

    @property
    def masked(self) -> bool:
        return False

    def encode(self, sample: Any) -> BinaryCode:
        """The probe of one sample. Raises EncodingError."""
        return self._projection.encode(self._embed(sample))

    def enrol(self, samples: Sequence[Any], agree: Agree | None = None) -> BinaryCode:
        """The template of 3 to 10 samples: the code of the mean of those that belong together.

        A sample is an outlier if its own code does not agree with the template of all, or differs from most of the
        others in more than `PAIR_LIMIT` of the bits, as another person's does. The worst one is left out and the rest
        are judged anew, as long as at least three, and more than half of all, remain: no set of two people's pictures
        passes. Raises EncodingError as `encode` does, `too_few_captures`, `too_many_captures`, and
        InconsistentCaptures, which names the samples that do not fit by position, counted from 1.
        """
        require_captures(len(samples))
        if len(samples) > CAPTURES_MAX:
            raise EncodingError("too_many_captures", f"enrolment takes at most {CAPTURES_MAX} captures")
        embeddings = [np.asarray(self._embed(sample), dtype=np.float64) for sample in samples]
        codes = [self._projection.encode(embedding) for embedding in embeddings]
        kept = list(range(len(samples)))
        while True:
            template = self._projection.enrol([embeddings[position] for position in kept])
            strange = [] if agree is None else _strange(codes, template, kept, agree)
            if not strange:
                return template
            if len(kept) - 1 < max(CAPTURES_MIN, len(samples) // 2 + 1):
                positions = [position + 1 for position in sorted(strange)]
                told = ", ".join(map(str, positions))
                text = f"enrolment captures {told} do not look like the others; capture again"
                raise InconsistentCaptures(text, positions)
            kept.remove(strange[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoder_id}, {self.code_bits} bits)"


def _strange(codes: list[BinaryCode], template: BinaryCode, kept: list[int], agree: Agree) -> list[int]:
    """Positions of outliers, the one farthest from the others first."""
    limit = PAIR_LIMIT * template.code_bits
    found: list[tuple[float, int]] = []
    for position in kept:
        away = [np.count_nonzero(codes[position].bits != codes[other].bits) for other in kept if other != position]
        unlike_most = 2 * sum(distance > limit for distance in away) > len(away)
        if unlike_most or not agree(codes[position], template):
            found.append((float(np.mean(away)), position))
    return [position for _, position in sorted(found, reverse=True)]
