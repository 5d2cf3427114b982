"""The load's figures as a picture: what a login costs the server in exponentiations, and how long users wait."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.load_rows import RATIO_AIM, RATIO_FLOOR, LoadRow

_INK, _MUTED, _GRID, _FLOOR, _AIM = "#1f2430", "#6b7280", "#e5e7eb", "#b42318", "#2e7d32"
_POWMOD, _SERVER, _DATABASE = "#27496d", "#5fb0c9", "#e09f3e"
_PERCENTILES = (("median", "#a9d6e0"), ("95 %", "#2f7fa8"), ("99 %", "#27496d"))


def draw_load(rows: Sequence[LoadRow], file: Path) -> None:
    """Write a PNG."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK})
    figure, (cost, latency) = plt.subplots(1, 2, figsize=(14, 6.4), layout="constrained")
    figure.suptitle("A server under load", fontsize=17, fontweight="bold", x=0.01, ha="left")
    _cost(cost, rows)
    _latency(latency, rows)
    for axes in (cost, latency):
        axes.set_xticks(
            range(len(rows)), [f"{row.backend}\n{row.workers} worker{'s' * (row.workers > 1)}" for row in rows]
        )
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=_GRID)
        axes.tick_params(length=0, labelcolor=_INK)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(_MUTED)
    figure.savefig(file, dpi=140, facecolor="white")
    plt.close(figure)


def _cost(axes: Axes, rows: Sequence[LoadRow]) -> None:
    places, unit = range(len(rows)), [row.powmod_sec_ms for row in rows]
    server = [row.server_cpu_ms / powmod for row, powmod in zip(rows, unit, strict=True)]
    database = [(row.database_cpu_ms or 0.0) / powmod for row, powmod in zip(rows, unit, strict=True)]
    axes.bar(places, [1.0] * len(rows), 0.55, color=_POWMOD, label="one bare powmod_sec")
    axes.bar(places, [one - 1 for one in server], 0.55, bottom=1.0, color=_SERVER, label="rest of authsvc")
    axes.bar(places, database, 0.55, bottom=server, color=_DATABASE, label="database backends")
    top = max(1 / RATIO_FLOOR, *(sum(both) for both in zip(server, database, strict=True))) * 1.15
    for at, (row, own, theirs) in enumerate(zip(rows, server, database, strict=True)):
        axes.text(at, own + theirs + 0.01 * top, f"{row.ratio:.2f}", ha="center", va="bottom", fontweight="bold")
    for ratio, colour, name in ((RATIO_FLOOR, _FLOOR, "at least"), (RATIO_AIM, _AIM, "aim")):
        axes.axhline(1 / ratio, color=colour, linewidth=1.3, linestyle=(0, (5, 3)))
        axes.text(len(rows) + 0.05, 1 / ratio, f"{name} {ratio:g}", color=colour, ha="right", va="bottom", fontsize=8.5)
    axes.set_xlim(-0.55, len(rows) + 0.05)
    axes.set_ylim(0, top)
    axes.set_ylabel("CPU of a login, in bare exponentiations")
    axes.set_title("CPU a login; above it the ratio of authsvc alone", loc="left", fontsize=12)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False, fontsize=9.5)


def _latency(axes: Axes, rows: Sequence[LoadRow]) -> None:
    for number, (name, colour) in enumerate(_PERCENTILES):
        heights = [(row.p50_ms, row.p95_ms, row.p99_ms)[number] for row in rows]
        places = [at + (number - 1) * 0.26 for at in range(len(rows))]
        axes.bar(places, heights, 0.24, color=colour, label=name)
    top = max(row.p99_ms for row in rows) * 1.15
    for at, row in enumerate(rows):
        axes.text(at, row.p99_ms + 0.01 * top, f"{row.logins_per_s:.0f} logins/s", ha="center", va="bottom")
    axes.set_ylim(0, top)
    axes.set_ylabel("milliseconds from the SDK's call to the assertion")
    title = f"Latency with {rows[0].clients} clients on the same {rows[0].cores} cores"
    axes.set_title(title, loc="left", fontsize=12)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False, fontsize=9.5)
