"""Population statistics for a sign projection: mean and whitening of embeddings, shrunk where samples are few."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_PRIOR_PER_DIMENSION: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """`matrix` · (x − `mean`) has about unit covariance over the population, as far as the samples can tell.

    shrinkage: the weight λ of the isotropic covariance that was mixed in, 0 to 1.
    effective_samples: how many independent people's worth of information the samples hold.
    """

    mean: Floats = field(repr=False)
    matrix: Floats = field(repr=False)
    shrinkage: float
    effective_samples: float
    subjects: int
    samples: int


def grouped(embeddings: ArrayLike, labels: ArrayLike) -> dict[int | str, Floats]:
    """Embeddings by label, each scaled to length 1.

    Raises ValueError unless embeddings are a finite float array (samples, dimensions) without zero rows and labels
    one integer or text each.
    """
    rows = np.asarray(embeddings)
    names = np.asarray(labels)
    if rows.dtype.kind != "f" or rows.ndim != 2:
        raise ValueError("embeddings must be floats of shape (samples, dimensions)")
    if names.shape != rows.shape[:1] or names.dtype.kind not in "iuU":
        raise ValueError("labels must be one integer or text for each embedding")
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    if not np.all(np.isfinite(rows)) or not np.all(lengths > 0):
        raise ValueError("embeddings hold NaN, infinity, or a row of zeros")
    rows = rows / lengths[:, None]
    return {name: rows[names == name] for name in np.unique(names).tolist()}


def whitening(people: dict[int | str, Floats], shrinkage: float | None = None) -> Whitening:
    """Mean, and the symmetric inverse square root of the shrunk covariance.

        C_λ = (1 − λ)·C + λ·tr(C)/D·I        λ = P / (P + m),   P = 4·D,   m = Σ k_i / (1 + (k_i − 1)·ρ)

    C is the covariance about the mean, every person counting alike. λ weighs an isotropic prior like P observations
    against m effective ones (the mean of an inverse Wishart posterior); m is Kish's effective sample size: k pictures
    of one person whose intraclass correlation is ρ tell less than k pictures of k people. A prior of D was tried and
    cost genuine users more than it cost wolves; docs/accuracy.md has the figures. `shrinkage` sets λ instead. Raises
    ValueError for fewer than two people or samples that do not differ.
    """
    if len(people) < 2:
        raise ValueError("a population needs at least two people")
    means = np.array([rows.mean(axis=0) for rows in people.values()])
    mean = means.mean(axis=0)
    dimensions = mean.size
    covariance = np.zeros((dimensions, dimensions))
    within = 0.0
    for rows, own in zip(people.values(), means, strict=True):
        centred = rows - mean
        covariance += centred.T @ centred / len(rows) / len(people)
        within += float(np.mean(np.sum((rows - own) ** 2, axis=1))) / len(people)
    total = float(np.trace(covariance))
    if total <= 0:
        raise ValueError("the samples do not differ")
    correlation = max(0.0, 1.0 - within / total)
    effective = sum(len(rows) / (1 + (len(rows) - 1) * correlation) for rows in people.values())
    prior = _PRIOR_PER_DIMENSION * dimensions
    weight = prior / (prior + effective) if shrinkage is None else shrinkage
    if not 0 <= weight <= 1:
        raise ValueError("shrinkage must be from 0 to 1")
    shrunk = (1 - weight) * covariance + weight * total / dimensions * np.eye(dimensions)
    values, vectors = np.linalg.eigh(shrunk)
    # A floor, for the caller who sets λ = 0 with fewer samples than dimensions.
    values = np.maximum(values, 1e-6 * total / dimensions)
    matrix = vectors @ np.diag(values**-0.5) @ vectors.T
    return Whitening(mean, matrix, weight, effective, len(people), sum(map(len, people.values())))
