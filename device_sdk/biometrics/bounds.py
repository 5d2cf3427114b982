"""Rates with bounds. Comparisons of one person are not independent, so bounds come from people, not comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Rate:
    """errors of tries, and a 95 % interval: by bootstrap over subjects, or from 0 to 3/tries if there is no error.

    The rule of three takes the tries for independent. Those of one subject are not, so the true bound is higher.
    """

    errors: int
    tries: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.errors / self.tries if self.tries else float("nan")

    def __str__(self) -> str:
        if not self.tries:
            return "not tried"
        if not self.errors:
            return f"0 of {self.tries:,} (below {3 / self.tries:.2g} by the rule of three)"
        return f"{self.errors:,} of {self.tries:,} = {self.value:.3g} (95 %: {self.low:.2g} to {self.high:.2g})"


def rate(errors_by_subject: Sequence[int], tries_by_subject: Sequence[int], seed: int = 1) -> Rate:
    """Resamples whole subjects with replacement, 2,000 times."""
    errors = np.asarray(errors_by_subject, dtype=np.int64)
    tries = np.asarray(tries_by_subject, dtype=np.int64)
    total, count = int(errors.sum()), int(tries.sum())
    if not count:
        return Rate(0, 0, 0.0, 1.0)
    if not total:
        return Rate(0, count, 0.0, min(1.0, 3 / count))
    drawn = np.random.default_rng(seed).integers(0, len(errors), (_RESAMPLES, len(errors)))
    rates = errors[drawn].sum(axis=1) / np.maximum(1, tries[drawn].sum(axis=1))
    return Rate(total, count, float(np.quantile(rates, 0.025)), float(np.quantile(rates, 0.975)))


def pair_rate(errors: NDArray[np.int64], tries: NDArray[np.int64], seed: int = 1) -> Rate:
    """For impostors: `errors` and `tries`, shape (enrolled, other), are resampled in both directions at once."""
    total, count = int(errors.sum()), int(tries.sum())
    if not count:
        return Rate(0, 0, 0.0, 1.0)
    if not total:
        return Rate(0, count, 0.0, min(1.0, 3 / count))
    people = len(errors)
    generator = np.random.default_rng(seed)
    rates: list[float] = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(0, people, people)
        # A person drawn twice meets himself: the diagonal holds no tries, so nothing is counted there.
        tried = tries[np.ix_(drawn, drawn)].sum()
        rates.append(float(errors[np.ix_(drawn, drawn)].sum() / tried) if tried else 0.0)
    return Rate(total, count, float(np.quantile(rates, 0.025)), float(np.quantile(rates, 0.975)))
