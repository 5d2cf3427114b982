"""Enrolments of one, two and three templates at their own thresholds: what the OR of several gives a stranger.

Two operating points: the published one, where strangers are hardly ever accepted, and one so loose that one template
accepts about one stranger in a hundred (irises: in a thousand), with the other thresholds following by the same rule.
Only there can be seen whether the rule keeps the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import irises
from benchmarks.accuracy.joint_decision import Enrolled
from benchmarks.accuracy.photographs import Captures
from device_sdk.biometrics import BinaryCode, SignProjection, differing_and_valid
from device_sdk.biometrics.bounds import Rate, pair_rate, rate
from device_sdk.biometrics.face import FaceEncoder
from device_sdk.biometrics.template_thresholds import thresholds
from device_sdk.errors import InconsistentCaptures
from mpc.login.profile import Profile

COUNTS = (1, 2, 3)
LOOSE_FACES, LOOSE_IRISES = 0.01, 0.001
"""The rate of false matches of one template at the loose operating point."""
_GROUP = 3
_JOINT_EVERY = 97


@dataclass(frozen=True, slots=True)
class Row:
    """One number of templates at one operating point. threshold: in bits, or the ratio's numerator.

    false_matches: at that threshold. unadjusted: at that for one template.
    """

    count: int
    threshold: int
    false_matches: Rate
    unadjusted: Rate
    false_non_matches: Rate | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows for the published thresholds and for loose ones; whole logins that were compared with the clear decision."""

    published: list[Row]
    loose: list[Row]
    joint_tries: int
    joint_equal: bool


def faces(
    captures: Captures,
    projections: Sequence[SignProjection],
    made_from: Sequence[set[int]],
    published: Profile,
    advance: Callable[[], None],
) -> Comparison:
    """Ten ways round the ten pictures: three groups of three are enrolled, the last picture is the genuine try.

    Impostor tries are those where the constants come from neither person. With one template the first group counts,
    with two the first two.
    """
    people, pictures = len(captures), len(captures[0])
    # the least distance to the first m templates, by (m, owner, person, picture tried); NaN where it is no try
    nearest = np.full((3, people, people, pictures * pictures), np.nan)
    genuine = np.full((3, people, pictures), np.nan)
    joint_tries, joint_equal = 0, True
    for owner in range(people):
        encoder = FaceEncoder(projections[owner])
        profile = replace(published, encoder_id=encoder.encoder_id)
        codes = [[None if one is None else encoder.encode(one) for one in row] for row in captures]
        for shift in range(pictures):
            order = [(shift + at) % pictures for at in range(pictures)]
            groups = [order[at : at + _GROUP] for at in range(0, 3 * _GROUP, _GROUP)]
            templates = [_template(encoder, [captures[owner][at] for at in group], profile) for group in groups]
            if None in templates:
                continue
            held = [template for template in templates if template is not None]
            last = codes[owner][order[-1]]
            if last is not None:
                genuine[:, owner, shift] = _running_least(held, last)
            for person in range(people):
                if person == owner or {owner, person} & made_from[owner]:
                    continue
                for at, probe in enumerate(codes[person]):
                    if probe is not None:
                        nearest[:, owner, person, shift * pictures + at] = _running_least(held, probe)
            if (owner * pictures + shift) % _JOINT_EVERY == 0 and last is not None:
                for count in COUNTS:
                    ruled = profile.with_templates(count)
                    enrolled = Enrolled.of(ruled, *held[:count])
                    for probe in (last, next(one for one in codes[owner - 1] if one is not None)):
                        clear = any(ruled.accepts(*differing_and_valid(one, probe)) for one in held[:count])
                        joint_tries, joint_equal = joint_tries + 1, joint_equal & (enrolled.accepts(probe) == clear)
        advance()
    single = nearest[0][~np.isnan(nearest[0])]
    loose = thresholds(int(np.quantile(single, LOOSE_FACES)), single.mean(), single.std(), most=3)

    def rows(table: Sequence[int]) -> list[Row]:
        found = []
        for count in COUNTS:
            tried = ~np.isnan(nearest[count - 1])
            tries = tried.sum(axis=2)
            hits, unadjusted = ((nearest[count - 1] <= limit).sum(axis=2) for limit in (table[count - 1], table[0]))
            missed = (genuine[count - 1] > table[count - 1]).sum(axis=1)
            found.append(
                Row(
                    count,
                    table[count - 1],
                    pair_rate(hits, tries),
                    pair_rate(unadjusted, tries),
                    rate(missed.tolist(), (~np.isnan(genuine[count - 1])).sum(axis=1).tolist()),
                )
            )
        return found

    return Comparison(rows(published.thresholds), rows(loose), joint_tries, joint_equal)


def simulated_irises(profile: Profile, eyes: list[list[BinaryCode]]) -> Comparison:
    """The templates of an enrolment are of different eyes, and every probe is of yet another one: the worst case, in
    which the chances have nothing to do with each other and add up.
    """
    table = [*profile.thresholds, profile.thresholds[-1] - 1][:3]
    templates, tmasks = irises.stacked([row[0] for row in eyes])
    probes, pmasks = irises.stacked([code for row in eyes for code in row[1:]])
    distance, valid = irises.best_rotation(profile, templates, tmasks, probes, pmasks)
    enough = valid >= profile.min_valid
    # the smallest numerator at which a pair is accepted
    needed = np.where(enough, -(-(distance << profile.ratio_shift) // np.maximum(valid, 1)), 1 << profile.ratio_shift)
    owner = np.repeat(np.arange(len(eyes)), len(eyes[0]) - 1)
    strangers = needed[owner[None, :] != np.arange(len(eyes))[:, None]]
    ratios = (distance / np.maximum(valid, 1))[owner[None, :] != np.arange(len(eyes))[:, None]]
    unit = 1 << profile.ratio_shift
    loose = thresholds(int(np.quantile(strangers, LOOSE_IRISES)), ratios.mean() * unit, ratios.std() * unit, most=3)

    def rows(numbers: Sequence[int]) -> list[Row]:
        found = []
        for count in COUNTS:
            groups = np.arange(len(eyes) // count * count).reshape(-1, count)
            least = needed[groups].min(axis=1)
            stranger = (owner[None, None, :] != groups[:, :, None]).all(axis=1)
            tried = int(stranger.sum())
            hits, unadjusted = (int((stranger & (least <= limit)).sum()) for limit in (numbers[count - 1], numbers[0]))
            found.append(Row(count, numbers[count - 1], _counted(hits, tried), _counted(unadjusted, tried), None))
        return found

    two = profile.with_templates(2)
    joint_tries, joint_equal = 0, True
    for pair in range(3):
        enrolled = Enrolled.of(two, eyes[2 * pair][0], eyes[2 * pair + 1][0])
        for probe in (eyes[2 * pair][1], eyes[2 * pair + 1][1], eyes[2 * pair + 2][1]):
            at = [2 * pair, 2 * pair + 1]
            column = next(n for n in range(len(owner)) if np.array_equal(probes[n], probe.bits))
            clear = bool((needed[at, column] <= two.ratio_numerator).any())
            joint_tries, joint_equal = joint_tries + 1, joint_equal & (enrolled.accepts(probe) == clear)
    return Comparison(rows(table), rows(loose), joint_tries, joint_equal)


def _counted(errors: int, tries: int) -> Rate:
    """By count: simulated eyes have nothing to do with each other."""
    spread = 1.96 * (errors**0.5) if errors else 3.0
    return Rate(errors, tries, max(0.0, errors - spread) / tries, (errors + spread) / tries)


def _template(encoder: FaceEncoder, group: Sequence[object], profile: Profile) -> BinaryCode | None:
    def agree(one: BinaryCode, other: BinaryCode) -> bool:
        return profile.accepts(*differing_and_valid(one, other))

    if any(capture is None for capture in group):
        return None
    try:
        return encoder.enrol(list(group), agree)
    except InconsistentCaptures:
        return None


def _running_least(templates: Sequence[BinaryCode], probe: BinaryCode) -> NDArray[np.float64]:
    """The least distance to the first, the first two, the first three."""
    away = [differing_and_valid(template, probe)[0] for template in templates]
    return np.minimum.accumulate(np.array(away, dtype=np.float64))
