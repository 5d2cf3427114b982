"""A simulated sensor with the statistics of iris codes, for demonstrations and tests. It reads nobody."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.code import CODE_BITS_MAX, BinaryCode, Bits

IMPOSTOR_DEGREES_OF_FREEDOM: Final = 250
"""p(1 - p) / variance of the distance between two people: about that of iris codes (Daugman, "How iris
recognition works", 2004, found 249)."""

OCCLUSION_MIN: Final = 0.05
OCCLUSION_MAX: Final = 0.20

_LABEL: Final = b"tandem simulated-sensor v1"
_KERNEL_SCALE: Final = 1 << 12
_NOISE_SCALE: Final = 1 << 10
_QUALITY_LEVELS: Final = 9  # the popcount of one random byte, 0 to 8


class SimulatedSensor:
    """One simulated person in front of a simulated sensor; nothing here measures a body.

    How a code comes about: every bit is the sign of a number that belongs to the person plus noise that
    belongs to the capture. Both are smoothed with a Gaussian window, so neighbouring bits go together, and
    the bits where the person's number is small are the fragile ones, as in real codes.

    - two people: distance 0.50 of the bits on average with about min(code_bits, 250) degrees of freedom;
    - two captures of a person: `genuine_error` of the bits differ on average; against a template of three
      captures somewhat fewer;
    - the noise of a capture varies: its amplitude is a constant times 2^((B - 4) / 4), B the popcount of a
      random byte;
    - `masked`: each capture hides 5 to 20 % of the bits in two arcs, as eyelids do; hidden bits are noise.

    `person_seed` is the person; `capture_seed` names one series of captures of that person, and the sensor
    counts along it. The same three (person, series, position) give the same code on every platform;
    sensors that should go on where another stopped need a fresh `capture_seed`.
    `code_bits` is 1 to 65,536, `genuine_error` between 0 and 0.4. Raises ValueError otherwise.
    """

    __slots__ = ("_captures_taken", "_noise", "_person", "_seed", "code_bits", "genuine_error", "masked")

    def __init__(
        self,
        person_seed: int | bytes,
        code_bits: int = 2048,
        masked: bool = False,
        genuine_error: float = 0.18,
        *,
        capture_seed: int | bytes = 0,
    ) -> None:
        if not 1 <= code_bits <= CODE_BITS_MAX:
            raise ValueError(f"code_bits must be from 1 to {CODE_BITS_MAX}")
        if not 0 < genuine_error <= 0.4:
            raise ValueError("genuine_error must be above 0 and at most 0.4")
        self.code_bits = code_bits
        self.masked = masked
        self.genuine_error = genuine_error
        person = _field(person_seed)
        self._seed = person + _field(capture_seed)
        self._person = _smooth(_stream(b"person" + person, 16 * _draws(code_bits)), code_bits)
        self._noise = _noise_amplitudes(genuine_error)
        self._captures_taken = count()

    @property
    def description(self) -> str:
        """One line for a person: what this is and what it is not."""
        return (
            f"SIMULATED sensor: {self.code_bits}-bit random codes with the statistics of iris codes "
            f"(two captures of a person differ in {self.genuine_error:.0%} of the bits on average). "
            "It measures no body."
        )

    def capture(self) -> BinaryCode:
        """The next capture of the series."""
        label = b"capture" + self._seed + next(self._captures_taken).to_bytes(8, "little")
        size = 16 * _draws(self.code_bits)
        stream = _stream(label, size + 16 + self.code_bits)
        noise = _smooth(stream[:size], self.code_bits)
        quality = stream[size].bit_count()
        bits = (_NOISE_SCALE * self._person + self._noise[quality] * noise >= 0).astype(np.uint8)
        if not self.masked:
            return BinaryCode(bits)
        mask = _eyelids(stream[size + 1 : size + 16], self.code_bits)
        hidden = np.frombuffer(stream[size + 16 :], dtype=np.uint8) & 1
        return BinaryCode(np.where(mask == 1, bits, hidden), mask)

    def captures(self, k: int) -> list[BinaryCode]:
        """The next k captures of the series."""
        return [self.capture() for _ in range(k)]

    def __repr__(self) -> str:
        masked = "masked" if self.masked else "unmasked"
        return f"SimulatedSensor(simulated, measures no body; {self.code_bits} bits, {masked})"


def _field(seed: int | bytes) -> bytes:
    """A seed with its type and length in front, so that fields cannot run into each other."""
    body = b"i%d" % seed if isinstance(seed, int) else b"b" + seed
    return len(body).to_bytes(4, "little") + body


def _stream(label: bytes, size: int) -> bytes:
    return hashlib.shake_256(_LABEL + label).digest(size)


def _draws(code_bits: int) -> int:
    """How many draws a line of `code_bits` positions needs."""
    return code_bits + _kernel(code_bits).size - 1


def _smooth(stream: bytes, code_bits: int) -> NDArray[np.int64]:
    """`code_bits` correlated, nearly Gaussian integers from 16 bytes a draw.

    Each draw is a sum of eight uniform 16-bit numbers, centred. Integers throughout (below 2^48), so that
    the signs are the same everywhere.
    """
    uniform = np.frombuffer(stream, dtype="<u2").astype(np.int64).reshape(-1, 8)
    return np.convolve(2 * uniform.sum(axis=1) - 8 * 0xFFFF, _kernel(code_bits), mode="valid")


@lru_cache(maxsize=16)
def _kernel(code_bits: int) -> NDArray[np.int64]:
    """Gaussian weights in units of 2^-12, as wide as the documented degrees of freedom ask for."""
    width = _smoothing_width(code_bits)
    side: list[int] = []
    while width > 0:
        weight = round(_KERNEL_SCALE * math.exp(-(((len(side) + 1) / width) ** 2) / 2))
        if weight == 0:
            break
        side.append(weight)
    return np.array([*reversed(side), _KERNEL_SCALE, *side], dtype=np.int64)


def _smoothing_width(code_bits: int) -> float:
    """The standard deviation of the kernel in positions; 0 where the code is too short to need smoothing."""
    # Noise smoothed with width w has correlation r_k = exp(-k^2 / 4w^2) at lag k, and its signs have
    # s_k = (2/pi) asin r_k. The distance of two independent codes then has variance
    # 1/4 / n * (1 + 2 sum_k s_k^2), hence n / (1 + 2 sum_k s_k^2) degrees of freedom.
    target = code_bits / IMPOSTOR_DEGREES_OF_FREEDOM
    if target <= 1:
        return 0.0
    low, high = 0.0, float(target)  # the sum is about 3.26 w, so w < target
    for _ in range(60):
        width = (low + high) / 2
        lags = range(1, math.ceil(7 * width) + 1)
        signs = (2 / math.pi * math.asin(math.exp(-((k / (2 * width)) ** 2))) for k in lags)
        low, high = (width, high) if 1 + 2 * sum(s * s for s in signs) < target else (low, width)
    return low


@lru_cache(maxsize=16)
def _noise_amplitudes(genuine_error: float) -> tuple[int, ...]:
    """The amplitude of the noise for each quality level, in units of 2^-10 of the person's own amplitude."""
    levels = [2.0 ** ((level - 4) / 4) for level in range(_QUALITY_LEVELS)]
    shares = [math.comb(_QUALITY_LEVELS - 1, level) / 256 for level in range(_QUALITY_LEVELS)]

    def mean_error(amplitude: float) -> float:
        # Two captures with noise s and t correlate by 1 / sqrt((1 + s^2)(1 + t^2)); their signs differ with
        # probability acos of it over pi.
        lengths = [math.hypot(1.0, amplitude * level) for level in levels]
        return sum(
            p * q * math.acos(1 / (s * t)) / math.pi
            for p, s in zip(shares, lengths, strict=True)
            for q, t in zip(shares, lengths, strict=True)
        )

    low, high = 0.0, 16.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean_error(middle) < genuine_error else (low, middle)
    return tuple(round(_NOISE_SCALE * low * level) for level in levels)


def _eyelids(stream: bytes, code_bits: int) -> Bits:
    """A mask (1 = usable) with two hidden arcs, near one quarter and three quarters of the code."""
    draws = [value / 0x10000 for value in np.frombuffer(stream[:8], dtype="<u2").tolist()]
    least, most = math.ceil(OCCLUSION_MIN * code_bits), math.floor(OCCLUSION_MAX * code_bits)
    hidden = least + int(draws[0] * (most - least + 1)) if most >= least else 0
    upper = int(hidden * (0.25 + draws[1] / 2))
    mask = np.ones(code_bits, dtype=np.uint8)
    for width, centre, shift in ((upper, 0.25, draws[2]), (hidden - upper, 0.75, draws[3])):
        start = int((centre + (shift - 0.5) / 32) * code_bits) - width // 2
        mask[start : start + width] = 0
    return mask
