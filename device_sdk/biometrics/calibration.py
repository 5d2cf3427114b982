"""Constants, length and threshold for the embeddings of another model, and how well they separate people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.bounds import Rate, pair_rate, rate
from device_sdk.biometrics.sign_projection import SignProjection
from device_sdk.biometrics.template_thresholds import thresholds
from device_sdk.biometrics.whitening import Floats, Whitening, whitening

LENGTHS: Final = (512, 1024, 2048, 4096)
_ENROLLED: Final = 3
_NEAR_BEST: Final = 0.005


@dataclass(frozen=True, slots=True)
class Separation:
    """One code length, measured two-fold over people: the constants never come from either person of a comparison.

    `genuine` and `impostor` are distances as shares of the bits. threshold: in bits, for the false match rate wanted.
    thresholds: that one, and those for 2, 3, … templates, as a profile has them; by strangers, not by crafted probes.
    """

    code_bits: int
    threshold: int
    thresholds: tuple[int, ...]
    false_non_matches: Rate
    false_matches: Rate
    genuine: Floats = field(repr=False)
    impostor: Floats = field(repr=False)
    refused_by_person: dict[str, float] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Calibration:
    """`projection` holds the constants made from everybody, at the length of `recommended`."""

    projection: SignProjection
    whitening: Whitening
    wanted: float
    recommended: Separation
    separations: tuple[Separation, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "encoder_digest": self.projection.constants.digest().hex()[:16],
            "wanted_false_match_rate": self.wanted,
            "people": self.whitening.subjects,
            "samples": self.whitening.samples,
            "shrinkage": self.whitening.shrinkage,
            "recommended": {
                "code_bits": self.recommended.code_bits,
                "threshold": self.recommended.threshold,
                "thresholds": list(self.recommended.thresholds),
            },
            "lengths": [
                {
                    "code_bits": one.code_bits,
                    "threshold": one.threshold,
                    "false_non_matches": str(one.false_non_matches),
                    "false_matches": str(one.false_matches),
                    "genuine_tries": one.false_non_matches.tries,
                    "false_rejects": one.false_non_matches.errors,
                    "impostor_tries": one.false_matches.tries,
                    "false_accepts": one.false_matches.errors,
                }
                for one in self.separations
            ],
        }


def calibrate(
    people: dict[int | str, Floats], wanted: float, seed_label: str, advance: Callable[[], None] = lambda: None
) -> Calibration:
    """Enrols each person with the first three samples and tries the others, at every length.

    `people`: as `whitening.grouped` gives them, each embedding of length 1.

    The threshold is the smaller of two: the largest at which the observed rate of false matches is at most `wanted`,
    and the one at which a normal distribution fitted to the strangers' distances gives `wanted`, which reaches beyond
    what so few comparisons can show. Recommended is the shortest code whose genuine refusals are at most half a percent
    point above the best. Raises ValueError for fewer than four people with four samples each, or another rate than
    one above 0 and below 0.5.
    """
    if not 0 < wanted < 0.5:
        raise ValueError("the false match rate wanted must be above 0 and below 0.5")
    tried = {name: rows for name, rows in people.items() if len(rows) > _ENROLLED}
    if len(tried) < 4:
        raise ValueError("at least four people with four samples each are needed; better some hundreds")
    separations = []
    for bits in LENGTHS:
        separations.append(_separation(tried, bits, wanted, seed_label))
        advance()
    best = min(one.false_non_matches.value for one in separations)
    chosen = next(one for one in separations if one.false_non_matches.value <= best + _NEAR_BEST)
    made = whitening(people)
    return Calibration(
        SignProjection(made.mean.size, chosen.code_bits, made.mean, made.matrix, seed_label),
        made,
        wanted,
        chosen,
        tuple(separations),
    )


def _separation(tried: dict[int | str, Floats], bits: int, wanted: float, seed_label: str) -> Separation:
    names = list(tried)
    count = len(names)
    distances: dict[tuple[int, int], list[float]] = {}
    for fold in (0, 1):
        made = whitening({name: tried[name] for at, name in enumerate(names) if at % 2 != fold})
        projection = SignProjection(made.mean.size, bits, made.mean, made.matrix, seed_label)
        unseen = range(fold, count, 2)
        templates = {at: projection.enrol(list(tried[names[at]][:_ENROLLED])).bits for at in unseen}
        for person in unseen:
            probes = [projection.encode(sample).bits for sample in tried[names[person]][_ENROLLED:]]
            for owner in unseen:
                distances[owner, person] = [float(np.mean(probe != templates[owner])) for probe in probes]
    genuine = np.array([one for (owner, person), row in distances.items() if owner == person for one in row])
    impostor = np.array([one for (owner, person), row in distances.items() if owner != person for one in row])
    threshold = _threshold(impostor, bits, wanted)
    refused = [sum(one * bits > threshold for one in distances[at, at]) for at in range(count)]
    errors, tries = (np.zeros((count, count), dtype=np.int64) for _ in range(2))
    for (owner, person), row in distances.items():
        if owner != person:
            tries[owner, person] = len(row)
            errors[owner, person] = sum(one * bits <= threshold for one in row)
    return Separation(
        code_bits=bits,
        threshold=threshold,
        thresholds=thresholds(threshold, impostor.mean() * bits, impostor.std() * bits),
        false_non_matches=rate(refused, [len(distances[at, at]) for at in range(count)]),
        false_matches=pair_rate(errors, tries),
        genuine=genuine,
        impostor=impostor,
        refused_by_person={str(names[at]): refused[at] / len(distances[at, at]) for at in range(count)},
    )


def _threshold(impostor: NDArray[np.float64], bits: int, wanted: float) -> int:
    """In bits, at least 1 and below half of them."""
    ordered = np.sort(np.rint(impostor * bits))
    allowed = int(wanted * len(ordered))  # so many may be accepted
    seen = ordered[allowed] - 1
    fitted = bits * (impostor.mean() + NormalDist().inv_cdf(wanted) * impostor.std())
    return int(max(1, min(seen, np.floor(fitted), bits // 2 - 1)))
