"""The figures as a picture: server CPU in exponentiations, and where the user's waiting time goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.parts import (
    AT_REST,
    DECODING,
    GARBLING,
    HTTP,
    OT,
    REFRESH,
    RSA,
    SEALING,
    SIGNATURE,
    SQL,
)
from benchmarks.rows import SERVER_BUDGET_POWMODS, Row
from benchmarks.stopwatch import REST

_INK, _MUTED, _GRID, _BUDGET = "#1f2430", "#6b7280", "#e5e7eb", "#b42318"
_Stack = Mapping[str, tuple[str, Sequence[str]]]

_SERVER: _Stack = {
    "RSA exponentiation and share check": ("#27496d", (RSA,)),
    "oblivious transfer": ("#2f7fa8", (OT,)),
    "garbling": ("#5fb0c9", (GARBLING,)),
    "sealing and key agreement": ("#a9d6e0", (SEALING,)),
    "SQL": ("#e09f3e", (SQL,)),
    "HTTP": ("#f2cc8f", (HTTP,)),
    "request signature": ("#9a6fb0", (SIGNATURE,)),
    "shares at rest, refresh, decoding, other": ("#b8bcc6", (AT_REST, REFRESH, DECODING, REST)),
}
_WALL: _Stack = {
    "device: capture, store index": ("#8ab17d", ("device: capture and encode", "device: store index")),
    "device: message 1": ("#4c8c6b", ("device: message 1",)),
    "server and network": ("#27496d", ("server and network",)),
    "device: evaluate and combine": ("#e09f3e", ("device: evaluate and combine",)),
    "device: store next shares": ("#f2cc8f", ("device: store next shares",)),
}


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write a PNG."""
    plt.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK})
    figure, (server, wall) = plt.subplots(1, 2, figsize=(15, 7.2), layout="constrained")
    figure.suptitle("What one split-key login costs", fontsize=17, fontweight="bold", x=0.01, ha="left")
    _bars(server, rows, _SERVER, lambda row: row.server_parts_ms, lambda row: row.powmod_sec_ms)
    _totals(server, rows, [row.server_ratio for row in rows], [f"{row.server_cpu_ms:.1f} ms" for row in rows], "×")
    server.axhline(SERVER_BUDGET_POWMODS, color=_BUDGET, linewidth=1.4, linestyle=(0, (5, 3)))
    server.set_xlim(-0.55, len(rows) + 0.1)
    note = f"budget\n{SERVER_BUDGET_POWMODS:.1f}×\n2048 / 2048"
    server.text(len(rows) + 0.1, SERVER_BUDGET_POWMODS, note, color=_BUDGET, ha="right", va="bottom", fontsize=8.5)
    server.set_ylabel("server CPU, in bare RSA exponentiations (powmod_sec)")
    server.set_title("Server CPU a login, confirmation, HTTP and SQL included", loc="left", fontsize=12)
    _bars(wall, rows, _WALL, lambda row: row.wall_parts_ms, lambda _row: 1.0)
    heights = [sum(row.wall_parts_ms.values()) for row in rows]
    _totals(wall, rows, heights, [f"median {row.wall_ms:.1f}" for row in rows], " ms")
    wall.set_ylabel("milliseconds (mean of each step)")
    wall.set_title("Wall time, SDK call to assertion in hand, on one machine", loc="left", fontsize=12)
    figure.savefig(file, dpi=140, facecolor="white")
    plt.close(figure)


def _bars(
    axes: Axes,
    rows: Sequence[Row],
    stack: _Stack,
    parts_of: Callable[[Row], Mapping[str, float]],
    unit_of: Callable[[Row], float],
) -> None:
    bottoms = [0.0] * len(rows)
    highest = max(sum(parts_of(row).values()) / unit_of(row) for row in rows)
    for label, (colour, names) in stack.items():
        heights = [sum(parts_of(row).get(name, 0.0) for name in names) / unit_of(row) for row in rows]
        drawn = axes.bar(
            range(len(rows)), heights, 0.62, bottom=bottoms, color=colour, edgecolor="white", linewidth=0.8, label=label
        )
        _values(axes, drawn, heights, highest, colour)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_xticks(range(len(rows)), [f"{row.profile}\nN = {row.modulus_bits}" for row in rows])
    axes.set_ylim(0, highest * 1.14)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=_GRID)
    axes.tick_params(length=0, labelcolor=_INK)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1],
        labels[::-1],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.1),
        ncols=2,
        frameon=False,
        fontsize=9.5,
    )


def _values(axes: Axes, drawn: Any, heights: Sequence[float], highest: float, colour: str) -> None:
    """The figure inside a segment that is tall enough to hold it."""
    tall = 0.03 * highest
    labels = [f"{height:.2f}" if height > tall else "" for height in heights]
    dark = sum(int(colour[at : at + 2], 16) for at in (1, 3, 5)) < 3 * 140
    axes.bar_label(drawn, labels, label_type="center", fontsize=8, color="white" if dark else _INK)


def _totals(axes: Axes, rows: Sequence[Row], heights: Sequence[float], notes: Sequence[str], unit: str) -> None:
    top = axes.get_ylim()[1]
    for at, (height, note) in enumerate(zip(heights, notes, strict=True)):
        axes.text(at, height + 0.012 * top, f"{height:.2f}{unit}", ha="center", va="bottom", fontweight="bold")
        axes.text(at, height + 0.048 * top, note, ha="center", va="bottom", fontsize=8.5, color=_MUTED)
