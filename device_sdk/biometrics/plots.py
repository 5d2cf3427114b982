"""Pictures of error rates: histograms of the distances, and both rates at every threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def histograms(
    path: Path, genuine: Sequence[float], groups: Mapping[str, Sequence[float]], threshold: float, title: str
) -> None:
    """Distances as shares of the bits. `groups`: everybody who must be refused."""
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    bins = np.linspace(0, 0.65, 66).tolist()
    axes.hist(genuine, bins=bins, density=True, alpha=0.75, color="#0a6c74", label=f"genuine ({len(genuine):,})")
    for (name, values), colour in zip(groups.items(), ("#a8261f", "#6d3bb5", "#8a8a8a"), strict=False):
        axes.hist(values, bins=bins, density=True, alpha=0.5, color=colour, label=f"{name} ({len(values):,})")
    axes.axvline(threshold, color="#10222e", linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="distance, share of the bits", ylabel="density", title=title)
    axes.margins(y=0.3)  # room for the legend
    axes.legend(frameon=False, ncols=2, loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def error_rates(path: Path, genuine: Sequence[float], impostor: Sequence[float], threshold: float, title: str) -> None:
    """Both error rates at every threshold. Below one error in all tries nothing was seen: a dotted line ends there."""
    mine, theirs = np.sort(np.asarray(genuine)), np.sort(np.asarray(impostor))
    at = np.linspace(0.05, 0.5, 451)
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    curves = (
        (1 - np.searchsorted(mine, at, side="right") / len(mine), len(mine), "#0a6c74", "genuine refused"),
        (np.searchsorted(theirs, at, side="right") / len(theirs), len(theirs), "#a8261f", "strangers accepted"),
    )
    for rates, tries, colour, name in curves:
        axes.plot(at, np.where(rates > 0, rates, np.nan), color=colour, label=f"{name}, of {tries:,}")
        axes.axhline(1 / tries, color=colour, linestyle=":", linewidth=1)
    axes.axvline(threshold, color="#10222e", linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set(yscale="log", ylim=(None, 1.2), xlabel="threshold, share of the bits", ylabel="error rate", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def worst_subjects(path: Path, rates: Sequence[tuple[str, float]], title: str) -> None:
    """Who is refused most: (label, share of his genuine tries refused), the worst first."""
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.3 * max(4, len(rates))), layout="constrained")
    axes.barh([name for name, _ in rates][::-1], [value for _, value in rates][::-1], color="#0a6c74")
    axes.set(xlim=(0, 1), xlabel="share of genuine tries refused", title=title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
