"""Attackers of faces who choose their probe: they know the constants, and people like those they attack."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.photographs import Captures, PhotographResult
from device_sdk.biometrics import SignProjection

CANDIDATES = 100_000
BUDGET = 100
"""Unconfirmed attempts in 30 days."""
_COMPONENTS = 8
_BATCH = 10_000


def tried(
    captures: Captures,
    result: PhotographResult,
    projections: list[SignProjection],
    known: list[set[int]],
    advance: Callable[[], None],
) -> dict[str, list[int]]:
    """Distances by kind of probe, over all templates whose owner the attacker has no picture of.

    The attacker has the pictures of `known[subject]`, from which the constants were made too. For constants as shipped
    there are none, and then nothing is tried.
    """
    distances: dict[str, list[int]] = {}
    for number, template in enumerate(result.templates):
        if template is not None and known[number]:
            for kind, probes in _crafted(number, captures, projections[number], known[number]).items():
                away = np.count_nonzero(probes != template.bits, axis=1)
                distances.setdefault(kind, []).extend(int(one) for one in away)
        advance()
    return distances


_cache: dict[str, dict[str, NDArray[np.uint8]]] = {}


def _crafted(
    number: int, captures: Captures, projection: SignProjection, known: set[int]
) -> dict[str, NDArray[np.uint8]]:
    """Probes by kind, shape (probes, bits). The same for all whom one set of constants is used for."""
    if projection.encoder_id in _cache:
        return _cache[projection.encoder_id]
    people = [np.array([one.embedding for one in captures[other] if one]) for other in sorted(known)]
    samples = np.concatenate(people)
    mean = samples.mean(axis=0)
    _, _, components = np.linalg.svd(samples - mean, full_matrices=False)
    codes = np.array([projection.encode(one).bits for one in samples])
    signs = 1.0 - 2.0 * codes
    _, _, code_components = np.linalg.svd(signs - signs.mean(axis=0), full_matrices=False)
    bits = projection.code_bits
    probes: dict[str, list[NDArray[np.uint8]]] = {
        "all 0, all 1, alternating": [
            np.zeros(bits, np.uint8),
            np.ones(bits, np.uint8),
            (np.arange(bits) % 2).astype(np.uint8),
        ],
        "population mean of the codes": [(signs.mean(axis=0) < 0).astype(np.uint8)],
        "± principal components 1 to 8 of the embeddings": [
            projection.encode(mean + sign * component).bits
            for component in components[:_COMPONENTS]
            for sign in (1, -1)
        ],
        "± top eigenvectors of the code covariance": [
            (sign * component < 0).astype(np.uint8) for component in code_components[:_COMPONENTS] for sign in (1, -1)
        ],
        "the attacker's own people (cluster centres)": [projection.encode(one.mean(axis=0)).bits for one in people],
        "± axes of the embedding": [
            projection.encode(mean + sign * axis).bits for axis in np.eye(mean.size) for sign in (1, -1)
        ],
    }
    order = _best_of_many(samples, people, projection)
    probes[f"best {BUDGET} of {CANDIDATES:,}"] = [projection.encode(one).bits for one in order[:BUDGET]]
    spread = _far_apart(order[: 50 * BUDGET], BUDGET)
    probes[f"search by elimination, {BUDGET} tries"] = [projection.encode(one).bits for one in spread]
    _cache[projection.encoder_id] = {kind: np.array(rows) for kind, rows in probes.items()}
    return _cache[projection.encoder_id]


def _best_of_many(
    samples: NDArray[np.float64], people: list[NDArray[np.float64]], projection: SignProjection
) -> NDArray[np.float64]:
    """Draws from the normal distribution of the attacker's people, those first that are near most of them.

    Near by the angle after whitening, which is what the distance of codes estimates.
    """
    generator = np.random.default_rng(5)
    mean = samples.mean(axis=0)
    matrix = projection.constants.whitening.astype(np.float64)
    centres = _unit((np.array([_unit(one.mean(axis=0)) for one in people]) - mean) @ matrix.T)
    drawn, scores = [], []
    for _ in range(CANDIDATES // _BATCH):
        batch = mean + generator.standard_normal((_BATCH, len(samples))) @ (samples - mean) / len(samples) ** 0.5
        near = np.sort(_unit((batch - mean) @ matrix.T) @ centres.T, axis=1)
        drawn.append(batch)
        scores.append(near[:, -3:].mean(axis=1))
    everything: NDArray[np.float64] = np.concatenate(drawn)[np.argsort(-np.concatenate(scores))]
    return everything


def _far_apart(candidates: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """After each refusal, the candidate farthest from all that were refused: all that accept-or-refuse tells."""
    units = _unit(candidates)
    chosen, nearest = [0], units @ units[0]
    for _ in range(count - 1):
        chosen.append(int(np.argmin(nearest)))
        nearest = np.maximum(nearest, units @ units[chosen[-1]])
    return candidates[chosen]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled
