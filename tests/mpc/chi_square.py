"""Pearson's test for uniformity, with a threshold of about four standard deviations."""

from __future__ import annotations

from collections.abc import Iterable


def looks_uniform(counts: Iterable[int]) -> bool:
    """Whether counts over equally likely cells are plausible (Wilson–Hilferty; a false alarm once in 30,000)."""
    cells = list(counts)
    expected = sum(cells) / len(cells)
    degrees = len(cells) - 1
    statistic = sum((count - expected) ** 2 for count in cells) / expected
    spread = (2 / (9 * degrees)) ** 0.5
    normal = ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / spread
    return -4 < normal < 4


def bit_counts_look_fair(columns: Iterable[int], draws: int) -> bool:
    """Whether each of many fair coins, thrown `draws` times, shows a plausible number of ones (five deviations)."""
    return all(abs(ones - draws / 2) < 2.5 * draws**0.5 for ones in columns)
