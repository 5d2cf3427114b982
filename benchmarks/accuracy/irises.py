"""The iris part: simulated irises only. It shows what the matcher does with codes of known statistics, not more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.joint_decision import Enrolled
from device_sdk.biometrics import BinaryCode
from device_sdk.biometrics.iris import IrisEncoder, SimulatedIris
from mpc.login.profile import Profile

EYES = 400
PROBES = 5
CANDIDATES = 100_000
_BEST = 100
_COMPONENTS = 24
_JOINT = 10

Codes = NDArray[np.uint8]


@dataclass(slots=True)
class IrisResult:
    """Ratios distance/valid, the smallest of all rotations; refused for too few usable bits counts as refused."""

    profile: Profile
    genuine: NDArray[np.float64] = field(repr=False)
    genuine_too_few: int
    impostor: NDArray[np.float64] = field(repr=False)
    impostor_accepted: NDArray[np.bool_] = field(repr=False)
    genuine_accepted: NDArray[np.bool_] = field(repr=False)
    crafted: dict[str, tuple[int, int, float]] = field(repr=False)
    """By kind: tries, accepted, smallest ratio."""
    freedom: float
    joint_tries: int
    joint_equal: bool


def simulate(advance: Callable[[], None]) -> list[tuple[list[BinaryCode], ...]]:
    """For 2,048 and 4,096 bits, by eye: the template, then the probes."""
    encoders = [IrisEncoder(2048), IrisEncoder(4096)]
    found: list[tuple[list[BinaryCode], ...]] = []
    for eye in range(EYES):
        iris = SimulatedIris(eye)
        enrolled, tried = iris.captures(3), iris.captures(PROBES)
        found.append(tuple([encoder.enrol(enrolled), *map(encoder.encode, tried)] for encoder in encoders))
        advance()
    return found


def run(profile: Profile, eyes: list[list[BinaryCode]], advance: Callable[[], None]) -> IrisResult:
    """Everybody's probes against everybody's template, and the crafted ones against half of the templates."""
    templates, tmasks = stacked([row[0] for row in eyes])
    probes, pmasks = stacked([code for row in eyes for code in row[1:]])
    owner = np.repeat(np.arange(len(eyes)), PROBES)
    distance, valid = best_rotation(profile, templates, tmasks, probes, pmasks)
    advance()
    accepted = _accepted(profile, distance, valid)
    ratio = distance / np.maximum(valid, 1)
    own = owner[None, :] == np.arange(len(eyes))[:, None]
    first = np.zeros(len(owner), dtype=bool)
    first[::PROBES] = True
    strangers = ~own & first[None, :]
    crafted: dict[str, tuple[int, int, float]] = {}
    half = len(eyes) // 2
    for kind, codes, masks in _crafted(profile, templates[:half]):
        away, usable = best_rotation(profile, templates[half:], tmasks[half:], codes, masks)
        hits = _accepted(profile, away, usable)
        crafted[kind] = (hits.size, int(hits.sum()), float((away / np.maximum(usable, 1)).min()))
        advance()
    spread = _ratios_unturned(templates, tmasks, probes[first], pmasks[first])[~np.eye(len(eyes), dtype=bool)]
    tries, equal = _joint(profile, eyes, accepted)
    advance()
    return IrisResult(
        profile=profile,
        genuine=ratio[own],
        genuine_too_few=int((valid[own] < profile.min_valid).sum()),
        impostor=ratio[strangers],
        impostor_accepted=accepted[strangers],
        genuine_accepted=accepted[own],
        crafted=crafted,
        freedom=float(spread.mean() * (1 - spread.mean()) / spread.var()),
        joint_tries=tries,
        joint_equal=equal,
    )


STEPS = 2 + 8
"""How often `run` advances."""


def _joint(profile: Profile, eyes: list[list[BinaryCode]], accepted: NDArray[np.bool_]) -> tuple[int, bool]:
    """Whole logins for some of the tries, against the clear decision."""
    tries, equal = 0, True
    for eye in range(_JOINT):
        enrolled = Enrolled.of(profile, eyes[eye][0])
        for person, number in ((eye, 0), (eye, 1), ((eye + 1) % len(eyes), 0)):
            tries += 1
            equal &= enrolled.accepts(eyes[person][1 + number]) == bool(accepted[eye, person * PROBES + number])
    return tries, equal


def _crafted(profile: Profile, known: Codes) -> Iterator[tuple[str, Codes, Codes]]:
    """Kinds of probes and masks, from the codes of people that the attacker knows; he attacks others."""
    bits = profile.code_bits
    full = np.ones(bits, dtype=np.uint8)
    column = bits // profile.columns
    constants = np.array([full * 0, full, np.arange(bits) % 2, np.arange(bits) // column % 2], dtype=np.uint8)
    signs = 1.0 - 2.0 * known
    mean = signs.mean(axis=0)
    components = np.linalg.svd(signs - mean, full_matrices=False)[2][:_COMPONENTS]
    simple = np.concatenate([constants, (mean[None] < 0).astype(np.uint8)])
    directions = np.concatenate([components[:8] < 0, components[:8] > 0]).astype(np.uint8)
    yield "all 0, all 1, alternating by bit and column, mean", simple, _tile(full, simple)
    yield "± principal components 1 to 8 of the codes", directions, _tile(full, directions)
    # The mask is the attacker's: a run of columns left out, as many as v_min allows and a template's own lids leave.
    run = full.copy()
    run[: bits // 8] = 0
    yield "the same with a run of 1/8 masked", np.concatenate([simple, directions]), _tile(run, simple, directions)
    biased = full.copy()
    biased[np.argsort(np.abs(mean))[: bits // 8]] = 0
    yield (
        "the same with the 1/8 least biased bits masked",
        np.concatenate([simple, directions]),
        _tile(biased, simple, directions),
    )
    yield "the attacker's own people", known[:_BEST], _tile(full, known[:_BEST])
    generator = np.random.default_rng(9)
    centres = signs[:100].astype(np.float32)
    best: list[tuple[float, Codes]] = []
    for _ in range(CANDIDATES // 5000):
        drawn = mean + generator.standard_normal((5000, _COMPONENTS)) @ components * bits**0.5
        codes = (drawn < 0).astype(np.uint8)
        near = np.sort((1 - 2 * codes.astype(np.float32)) @ centres.T, axis=1)[:, -3:].mean(axis=1)
        best += [(float(near[at]), codes[at]) for at in np.argsort(-near)[:_BEST]]
        best = sorted(best, key=lambda one: -one[0])[:_BEST]
    chosen = np.array([code for _, code in best])
    yield f"best {_BEST} of {CANDIDATES:,}", chosen, _tile(full, chosen)
    yield "the same, a run of 1/8 masked", chosen, _tile(run, chosen)
    spread = np.array([code for _, code in best[::2]] + [np.roll(code, bits // 2) for _, code in best[::2]])
    yield "the same turned by half, search by elimination", spread, _tile(full, spread)


def _tile(mask: Codes, *codes: Codes) -> Codes:
    return np.repeat(mask[None], sum(map(len, codes)), axis=0)


def stacked(codes: list[BinaryCode]) -> tuple[Codes, Codes]:
    return np.array([code.bits for code in codes]), np.array([code.mask for code in codes])


def best_rotation(
    profile: Profile, templates: Codes, tmasks: Codes, probes: Codes, pmasks: Codes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(distance, valid) of each pair, at the rotation of the smallest ratio among those with enough usable bits."""
    column = profile.code_bits // profile.columns
    left = ((1 - 2.0 * templates) * tmasks).astype(np.float32)
    best_distance = best_valid = None
    for shift in range(-profile.rotation, profile.rotation + 1):
        turned, mask = np.roll(probes, shift * column, axis=1), np.roll(pmasks, shift * column, axis=1)
        valid = np.rint(tmasks.astype(np.float32) @ mask.T.astype(np.float32)).astype(np.int64)
        agree = np.rint(left @ ((1 - 2.0 * turned) * mask).astype(np.float32).T).astype(np.int64)
        distance = (valid - agree) // 2
        if best_distance is None or best_valid is None:
            best_distance, best_valid = distance, valid
            continue
        # Compare ratios, but a rotation with too few usable bits never wins over one with enough.
        enough, had = valid >= profile.min_valid, best_valid >= profile.min_valid
        better = np.where(enough == had, distance * best_valid < best_distance * valid, enough)
        best_distance, best_valid = np.where(better, distance, best_distance), np.where(better, valid, best_valid)
    assert best_distance is not None and best_valid is not None
    return best_distance, best_valid


def _accepted(profile: Profile, distance: NDArray[np.int64], valid: NDArray[np.int64]) -> NDArray[np.bool_]:
    close = distance << profile.ratio_shift <= profile.ratio_numerator * valid
    found: NDArray[np.bool_] = (valid >= profile.min_valid) & close
    return found


def _ratios_unturned(templates: Codes, tmasks: Codes, probes: Codes, pmasks: Codes) -> NDArray[np.float64]:
    left, right = ((1 - 2.0 * codes) * masks for codes, masks in ((templates, tmasks), (probes, pmasks)))
    valid = tmasks.astype(np.float64) @ pmasks.T.astype(np.float64)
    ratios: NDArray[np.float64] = (1 - left @ right.T / np.maximum(valid, 1)) / 2
    return ratios
