"""Pictures of error rates: histograms of the distances, and who is refused most."""

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


def worst_subjects(path: Path, rates: Sequence[tuple[str, float]], title: str) -> None:
    """Who is refused most: (label, share of his genuine tries refused), the worst first."""
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.3 * max(4, len(rates))), layout="constrained")
    axes.barh([name for name, _ in rates][::-1], [value for _, value in rates][::-1], color="#0a6c74")
    axes.set(xlim=(0, 1), xlabel="share of genuine tries refused", title=title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
