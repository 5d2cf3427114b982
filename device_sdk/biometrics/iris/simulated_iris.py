"""Simulated irises with the statistics of real codes, for tests and reports. They are of nobody."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.iris.iris_code import OPENIRIS_SHAPE, IrisCode

_ROW_WIDTH: Final = 2.3
_COLUMN_WIDTH: Final = 6.0
"""Standard deviations of the smoothing, in rows and columns: they set the degrees of freedom."""
_NOISE: Final = 0.52
"""Amplitude of a capture's own field; the person's is 1."""
OCCLUSION: Final = (0.05, 0.25)
"""Least and largest share of the code that the lids hide in one capture."""
MOST_TURNED_COLUMNS: Final = 5
"""A capture is turned by up to so many columns of 200, 9°, either way."""


class SimulatedIris:
    """One simulated eye in front of a simulated camera. SIMULATED: it measures no body.

    Every bit is the sign of a smooth random field that belongs to the eye plus one that belongs to the capture. The
    field runs round the circle without a seam; the smoothing is such that the distance of two eyes has about 240
    degrees of freedom over 12,800 bits (iris codes: 249, Daugman 2004). Two captures of an eye differ in about 0.15 of
    the bits once turned alike. Each capture is turned by up to ±5 columns, and two lids hide 5 to 16 % of the code:
    those bits are noise, and 0 in the mask. The same (eye, series, position) give the same code.
    """

    def __init__(self, eye: int, series: int = 0) -> None:
        """`eye` and `series`: 0 and up."""
        self._person = _field(np.random.default_rng([eye, 0]))
        self._random = np.random.default_rng([eye, 1, series])

    def capture(self) -> IrisCode:
        """The next capture of the series."""
        random = self._random
        level = _NOISE * 2.0 ** (random.normal() / 4)
        code = (self._person + level * _field(random) > 0).astype(np.uint8)
        mask = _lids(random)
        code = np.where(mask == 1, code, random.integers(0, 2, OPENIRIS_SHAPE, dtype=np.uint8))
        turn = int(random.integers(-MOST_TURNED_COLUMNS, MOST_TURNED_COLUMNS + 1))
        # The lids stay where they are when the eye turns below them.
        return IrisCode(np.roll(code, turn, axis=1), np.roll(mask, turn, axis=1))

    def captures(self, count: int) -> list[IrisCode]:
        return [self.capture() for _ in range(count)]

    def __repr__(self) -> str:
        return "SimulatedIris(simulated, measures no body)"


def _field(random: np.random.Generator) -> NDArray[np.float64]:
    """White noise smoothed over rows and round the columns, with unit variance; wavelets and parts independent."""
    rows, columns = OPENIRIS_SHAPE[:2]
    noise = random.standard_normal(OPENIRIS_SHAPE)
    along = np.minimum(np.arange(columns), columns - np.arange(columns))
    ring = np.exp(-0.5 * (along / _COLUMN_WIDTH) ** 2)
    smooth = np.fft.ifft(np.fft.fft(noise, axis=1) * np.fft.fft(ring)[None, :, None, None], axis=1).real
    apart = np.arange(rows)[:, None] - np.arange(rows)[None, :]
    mixing = np.exp(-0.5 * (apart / _ROW_WIDTH) ** 2)
    mixing /= np.linalg.norm(mixing, axis=1, keepdims=True)
    field: NDArray[np.float64] = np.tensordot(mixing, smooth, axes=(1, 0)) / np.linalg.norm(ring)
    return field


def _lids(random: np.random.Generator) -> NDArray[np.uint8]:
    """Two arcs at a quarter and three quarters of the circle, deepest in their middle, reaching in from the outside."""
    rows, columns = OPENIRIS_SHAPE[:2]
    hidden = random.uniform(*OCCLUSION)
    upper = random.uniform(0.5, 0.9)
    mask = np.ones((rows, columns), dtype=np.uint8)
    for centre, share in ((0.25, upper * hidden), (0.75, (1 - upper) * hidden)):
        half = 0.5 * (1.6 * share) ** 0.5
        angle = np.abs((np.arange(columns) / columns - centre + 0.5) % 1 - 0.5)
        depth = np.maximum(0.0, 1 - (angle / max(half, 1e-9)) ** 2) * 1.5 * share / (2 * half) if share else 0 * angle
        mask[np.arange(rows)[:, None] >= rows * (1 - depth)[None, :]] = 0
    return np.broadcast_to(mask[:, :, None, None], OPENIRIS_SHAPE).copy()
