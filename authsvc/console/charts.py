"""Bars over time as SVG: one series grows upwards from the middle line, the other downwards, so that position tells
them apart and not colour alone.

The drawing holds no text, since it is stretched to its place; labels and the table of the same figures are HTML around
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from ..services.activity import Period

_STEP, _BAR, _HEIGHT = 20, 15, 100


@dataclass(frozen=True, slots=True)
class Chart:
    """What the template `chart.html` needs. Scales: the figure at the upper and the lower edge."""

    title: str
    up_name: str
    down_name: str
    drawing: Markup
    up_scale: int
    down_scale: int
    share_up: int
    """How much of the height the upper part has, in tenths."""
    ticks: Sequence[tuple[str, str]]
    """(ISO 8601, shown)"""
    rows: Sequence[tuple[str, str, int, int]]
    """(ISO 8601, shown, up, down), without those where nothing was."""

    @property
    def is_empty(self) -> bool:
        return not self.rows


def bar_chart(
    title: str, period: Period, since: float, up: tuple[str, Sequence[int]], down: tuple[str, Sequence[int]]
) -> Chart:
    """up, down: a name and one figure for each bucket."""
    up_max, down_max = max(up[1]), max(down[1])
    up_scale, down_scale = _scale(up_max), _scale(down_max)
    # Each half has a measure of its own, which its label tells, so that the smaller one can be seen at all.
    share_up = min(8, max(2, round(10 * up_max / (up_max + down_max)))) if up_max + down_max else 5
    middle = _HEIGHT * share_up / 10
    parts = []
    for at, (above, below) in enumerate(zip(up[1], down[1], strict=True)):
        x = at * _STEP + (_STEP - _BAR) / 2
        name = _time(since + at * period.bucket_s)[1]
        if above:
            height = max(1.0, (middle - 1) * above / up_scale)
            parts.append(_bar("up", x, middle - 0.5 - height, height, f"{name}: {above} {up[0].lower()}"))
        if below:
            height = max(1.0, (_HEIGHT - middle - 1) * below / down_scale)
            parts.append(_bar("down", x, middle + 0.5, height, f"{name}: {below} {down[0].lower()}"))
    width = period.buckets * _STEP
    drawing = Markup(
        '<svg viewBox="0 0 {w} {h}" preserveAspectRatio="none" role="img" aria-label="{label}">'
        '<line class="middle" x1="0" x2="{w}" y1="{m}" y2="{m}" vector-effect="non-scaling-stroke"/>{bars}</svg>'
    ).format(
        w=width,
        h=_HEIGHT,
        m=f"{middle:g}",
        bars=Markup("").join(parts),
        label=f"{title}: {sum(up[1])} {up[0].lower()}, {sum(down[1])} {down[0].lower()}. The table holds the figures.",
    )
    every = period.buckets // 4
    return Chart(
        title=title,
        up_name=up[0],
        down_name=down[0],
        drawing=drawing,
        up_scale=up_scale,
        down_scale=down_scale,
        share_up=share_up,
        ticks=[_tick(since + at * period.bucket_s, period) for at in range(0, period.buckets, every)],
        rows=[
            (*_time(since + at * period.bucket_s), above, below)
            for at, (above, below) in enumerate(zip(up[1], down[1], strict=True))
            if above or below
        ],
    )


def _bar(kind: str, x: float, y: float, height: float, title: str) -> Markup:
    return Markup('<rect class="{}" x="{:g}" y="{:.2f}" width="{}" height="{:.2f}"><title>{}</title></rect>').format(
        kind, x, y, _BAR, height, title
    )


def _scale(largest: int) -> int:
    """The next round figure: 1, 2 or 5 times a power of ten."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= largest:
                return step * power
        power *= 10


def _time(at: float) -> tuple[str, str]:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%MZ}", f"{moment.day} {moment:%b %H:%M}"


def _tick(at: float, period: Period) -> tuple[str, str]:
    moment = datetime.fromtimestamp(at, UTC)
    shown = f"{moment:%H:%M}" if period.bucket_s * period.buckets <= 86_400 else f"{moment:%a} {moment.day} {moment:%b}"
    return f"{moment:%Y-%m-%dT%H:%MZ}", shown
