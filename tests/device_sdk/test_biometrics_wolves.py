"""A wolf is one probe that is near many templates; the whitening is there against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics import SignProjection
from device_sdk.biometrics.sign_projection import projection_matrix


def population(rng: np.random.Generator, people: int, spread: NDArray[np.float64]) -> NDArray[np.float64]:
    embeddings = rng.standard_normal((people, spread.shape[0])) @ spread
    normalised: NDArray[np.float64] = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return normalised


def wolf_and_nominal(whitened: bool) -> tuple[float, float]:
    """How often the probe sign(R W · first principal component) is accepted, and how often a stranger is.

    Embeddings of 64 dimensions whose variances fall as 1/i, 256 bits, a threshold of 0.34.
    """
    rng = np.random.default_rng(2024)
    dimensions, code_bits, threshold = 64, 256, 0.34
    rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
    spread = np.diag(np.arange(1, dimensions + 1) ** -0.5) @ rotation
    public = population(rng, 20_000, spread)
    values, vectors = np.linalg.eigh(np.cov(public.T))
    whitening = vectors @ np.diag(values**-0.5) @ vectors.T if whitened else np.eye(dimensions)
    encoder = SignProjection(dimensions, code_bits, public.mean(axis=0), whitening, "wolf")

    codes = np.array([encoder.encode(x).bits for x in population(rng, 1500, spread)])
    matrix = projection_matrix("wolf", dimensions, code_bits)
    wolf = (matrix @ (whitening @ vectors[:, -1]) >= 0).astype(np.uint8)
    signs = 2.0 * codes - 1
    strangers = (0.5 - signs @ signs.T / (2 * code_bits))[np.triu_indices(len(codes), 1)]
    accepted = (codes != wolf).mean(axis=1) <= threshold
    return float(np.mean(accepted)), float(np.mean(strangers <= threshold))


def test_whitening_stops_the_first_principal_component() -> None:
    """Unwhitened, one probe that anybody can compute opens a large part of all accounts."""
    wolf, nominal = wolf_and_nominal(whitened=False)
    wolf_whitened, nominal_whitened = wolf_and_nominal(whitened=True)

    assert wolf > 0.05
    assert wolf > 3 * nominal
    assert wolf_whitened < wolf / 20
    assert nominal_whitened < nominal / 5
