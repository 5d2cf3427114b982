"""Thresholds for enrolments of several templates: one match is enough, so each must match strangers less often.

P(a stranger matches one of m templates) ≤ m · P(he matches a given one), whatever the templates have to do with each
other, and also if the prober tries another probe with each. So the threshold θ_m is the largest whole number with

    F(θ_m) ≤ F(θ_1) / m,        F: the distribution of distances between a probe and a template of somebody else

F is needed as a ratio only, far out where no comparisons are. A normal distribution is fitted to the measured ones, as
for a threshold itself. That errs on the safe side as long as the true tail falls off no slower than the fitted one:
the faster it does, the more a step inwards takes away. Give the group of probes that asks for most: strangers, or a
kind of crafted probe, whichever has the larger `deviation` for its distance from the threshold.
"""

from __future__ import annotations

import sys
from math import erfc, floor, sqrt
from statistics import NormalDist

from mpc.parameters import MAX_TEMPLATES


def thresholds(first: int, mean: float, deviation: float, *, most: int = MAX_TEMPLATES) -> tuple[int, ...]:
    """θ_1 … θ_most, as a profile's `thresholds`. Fewer, where they would come down to 0.

    first: θ_1. mean, deviation: of the distances, in the same unit. With masks the unit is 2^-ratio_shift of the usable
    bits, as in a profile's `ratio_numerator`. Raises ValueError unless 0 < first < mean and deviation > 0.
    """
    if not 0 < first < mean or deviation <= 0:
        raise ValueError("the threshold must be below the mean of the distances, and those must differ")
    fitted = NormalDist(mean, deviation)
    # F(θ_1). Not by `cdf`, which is a difference from 1 and has no digits left so far out.
    allowed = erfc((mean - first) / (deviation * sqrt(2))) / 2
    if allowed < sys.float_info.min * most:
        raise ValueError("the threshold is too far from the distances for a tail to be told")
    found = [first]
    for count in range(2, most + 1):
        # Where the numbers are coarse, a step may be too small to show; a profile wants one all the same.
        following = min(floor(fitted.inv_cdf(allowed / count)), found[-1] - 1)
        if following <= 0:
            break
        found.append(following)
    return tuple(found)
