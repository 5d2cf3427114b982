"""The DET curve (detection error tradeoff): both error rates against each other, at every threshold at once.

Martin, Doddington, Kamm, Ordowski, Przybocki, "The DET curve in assessment of detection task performance", Eurospeech
1997; ISO/IEC 19795-1 asks for it in reports of biometric performance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from device_sdk.biometrics.bounds import Rate

Floats = NDArray[np.float64]

_TICKS: Final = (1e-5, 1e-4, 1e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
_MOST: Final = 0.5
_MARKED_EVERY: Final = 0.02
_MARKED_BELOW: Final = 0.45
_INCHES: Final = 1.6
"""Of a normal deviate."""
_MARGIN: Final = 0.15
_ARROW: Final = 0.3
"""In normal deviates, as the margin and the next are."""
_FAR_BELOW: Final = 9.0
_CURVE, _POINT, _FAINT = "#0a6c74", "#a8261f", "#8a8a8a"


def det_curve(
    path: Path,
    genuine: Sequence[float],
    impostor: Sequence[float],
    threshold: float,
    false_matches: Rate,
    false_non_matches: Rate,
    title: str,
) -> None:
    """The picture of `draw_det`, as PNG."""
    figure, axes = plt.subplots(layout="constrained")
    draw_det(axes, genuine, impostor, threshold, false_matches, false_non_matches)
    axes.set_title(title)
    width, height = (_INCHES * float(np.ptp(limits)) for limits in (axes.get_xlim(), axes.get_ylim()))
    figure.set_size_inches(width + 1.0, height + 0.9)  # with room for what is written around it
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_det(
    axes: Axes,
    genuine: Sequence[float],
    impostor: Sequence[float],
    threshold: float,
    false_matches: Rate,
    false_non_matches: Rate,
) -> None:
    """FNMR over FMR, both axes in normal deviates with ticks in per cent: normal distributions give a straight line.

    Distances and `threshold` are shares of the bits. Thresholds stand along the curve. The two rates are those at
    `threshold` and make one point with its 95 % interval; a rate of 0 is an arrow that starts at the bound of the rule
    of three. Nought has no deviate: where no try was decided wrongly, the curve runs along a dotted line at half of one
    error in all tries, with the tick "none".
    """
    at, fmr, fnmr = det_points(genuine, impostor)
    none_x, none_y = 0.5 / len(impostor), 0.5 / len(genuine)
    x, y = _deviates(np.maximum(fmr, none_x)), _deviates(np.maximum(fnmr, none_y))
    axes.plot(x, y, color=_CURVE, linewidth=1.8)
    for mark in np.arange(_MARKED_EVERY, 0.5, _MARKED_EVERY):
        index = int(np.searchsorted(at, mark, side="right")) - 1
        if index >= 0 and max(fmr[index], fnmr[index]) < _MARKED_BELOW:
            axes.plot(x[index], y[index], "o", color=_CURVE, markersize=4)
            beside: Any = {"xytext": (6, 4), "textcoords": "offset points", "fontsize": 8.5, "color": "#4a5f6d"}
            axes.annotate(f"{mark:.2f}", (x[index], y[index]), **beside)
    axes.axvline(_deviate(none_x), color=_FAINT, linestyle=":", linewidth=1)
    axes.axhline(_deviate(none_y), color=_FAINT, linestyle=":", linewidth=1)
    _operating_point(axes, threshold, false_matches, false_non_matches)
    axes.axline((0, 0), slope=1, color="#c6d3dc", linewidth=1, zorder=0)
    for axis, none, limit in ((axes.xaxis, none_x, axes.set_xlim), (axes.yaxis, none_y, axes.set_ylim)):
        shown = [share for share in _TICKS if share >= 2 * none]
        axis.set_ticks([_deviate(share) for share in (none, *shown)], ["none", *(f"{100 * one:g} %" for one in shown)])
        limit(min(_deviate(none), _deviate(0.01)) - _MARGIN, _deviate(_MOST))
    axes.set_xlabel(f"strangers accepted (FMR), of {len(impostor):,}")
    axes.set_ylabel(f"genuine refused (FNMR), of {len(genuine):,}")
    axes.set_aspect("equal")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper right")


def det_points(genuine: Sequence[float], impostor: Sequence[float]) -> tuple[Floats, Floats, Floats]:
    """(thresholds, FMR, FNMR): for every distance that occurs, both rates if all up to it are accepted."""
    mine, theirs = np.sort(np.asarray(genuine, dtype=float)), np.sort(np.asarray(impostor, dtype=float))
    at = np.unique(np.concatenate([mine, theirs]))
    fmr = np.searchsorted(theirs, at, side="right") / len(theirs)
    fnmr = 1 - np.searchsorted(mine, at, side="right") / len(mine)
    return at, fmr, fnmr


def _operating_point(axes: Axes, threshold: float, false_matches: Rate, false_non_matches: Rate) -> None:
    (x, x_error), (y, y_error) = _with_interval(false_matches), _with_interval(false_non_matches)
    axes.errorbar(
        x,
        y,
        xerr=x_error,
        yerr=y_error,
        xuplims=not false_matches.errors,
        uplims=not false_non_matches.errors,
        fmt="o",
        color=_POINT,
        capsize=3,
        label=f"threshold {threshold:.3f}, with 95 % intervals",
    )


def _with_interval(rate: Rate) -> tuple[float, list[list[float]]]:
    """(deviate, its distances from the ends of the interval in matplotlib's form)."""
    if not rate.errors:
        return _deviate(rate.high), [[_ARROW], [0.0]]
    value = _deviate(rate.value)
    low = _deviate(rate.low) if rate.low > 0 else value - _FAR_BELOW
    return value, [[value - low], [_deviate(rate.high) - value]]


def _deviate(share: float) -> float:
    # A rate or bound of 0 or 1 has no deviate: it goes off the plot.
    return NormalDist().inv_cdf(min(1 - 1e-9, max(1e-9, share)))


def _deviates(shares: Floats) -> list[float]:
    return [_deviate(float(share)) for share in shares]
