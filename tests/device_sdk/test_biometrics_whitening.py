"""Population statistics: what whitening does with many people, and how little with few."""

from __future__ import annotations

import numpy as np
import pytest

from device_sdk.biometrics.whitening import grouped, whitening


def population(people: int, samples: int, between: float, seed: int = 1) -> dict[int | str, np.ndarray]:
    """Eight dimensions whose variances fall; `between` is the share that lies between people."""
    generator = np.random.default_rng(seed)
    scale = np.array([1 / (1 + i) for i in range(8)]) ** 0.5
    centres = generator.standard_normal((people, 8)) * between**0.5 * scale
    noise = generator.standard_normal((people, samples, 8)) * (1 - between) ** 0.5 * scale
    return {number: centres[number] + noise[number] for number in range(people)}


def test_with_many_people_the_population_becomes_round() -> None:
    people = population(3000, 2, 0.5)
    made = whitening(people)
    rows = np.concatenate(list(people.values()))

    covariance = np.cov(((rows - made.mean) @ made.matrix.T).T)

    assert made.shrinkage < 0.02
    assert np.allclose(covariance, np.eye(8), atol=0.1)


def test_with_few_people_it_stays_near_a_mere_centring() -> None:
    made = whitening(population(3, 10, 0.9))
    values = np.linalg.eigvalsh(made.matrix)

    assert made.shrinkage > 0.8
    assert values[-1] / values[0] < 2


@pytest.mark.parametrize(("between", "low", "high"), [(0.0, 45.0, 101.0), (1.0, 9.0, 11.0), (0.5, 12.0, 22.0)])
def test_pictures_of_one_person_count_by_how_much_they_differ(between: float, low: float, high: float) -> None:
    """Ten people with ten samples each are up to 100 if a sample tells nothing of its owner, ten if it tells all.

    The estimate of the correlation leans to the side of fewer, hence of more shrinkage.
    """
    assert low < whitening(population(10, 10, between, seed=3)).effective_samples < high


def test_every_person_counts_alike() -> None:
    people = population(4, 3, 0.5)
    repeated = {**people, 0: np.repeat(people[0], 7, axis=0)}

    assert np.allclose(whitening(people, 0.5).mean, whitening(repeated, 0.5).mean)
    assert np.allclose(whitening(people, 0.5).matrix, whitening(repeated, 0.5).matrix)


@pytest.mark.parametrize(
    "people", [{}, {1: np.ones((3, 4))}, {1: np.ones((3, 4)), 2: np.ones((3, 4))}], ids=["none", "one", "alike"]
)
def test_a_population_of_nobody_is_refused(people: dict[int | str, np.ndarray]) -> None:
    with pytest.raises(ValueError):
        whitening(people)


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        (np.zeros((2, 3)), [1, 2]),
        (np.full((2, 3), np.nan), [1, 2]),
        (np.ones((2, 3), dtype=int), [1, 2]),
        (np.ones(3), [1, 2, 3]),
        (np.ones((2, 3)), [1]),
        (np.ones((2, 3)), [0.5, 1.5]),
    ],
)
def test_embeddings_that_make_no_sense_are_refused(embeddings: np.ndarray, labels: list[float]) -> None:
    with pytest.raises(ValueError):
        grouped(embeddings, labels)
