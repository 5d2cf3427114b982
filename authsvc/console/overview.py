"""The first page: is all well?"""

from __future__ import annotations

from starlette.responses import Response

from ..services import inspection
from ..services.activity import DAY, WEEK, activity
from ..store.event_search import EventFilter
from .charts import bar_chart
from .rendering import page
from .visits import Visit

_LATEST = 8


def show(visit: Visit) -> Response:
    """Figures and charts of 24 hours or 7 days, what waits for an operator, and the latest events."""
    period = WEEK if visit.query.get("period") == "7d" else DAY
    figures = activity(visit.ctx, period)
    events, _ = inspection.find_events(visit.ctx, EventFilter(), limit=_LATEST)
    confirmed, unconfirmed = sum(figures.confirmed), sum(figures.unconfirmed)
    logins = bar_chart(
        "Login attempts",
        period,
        figures.since,
        ("Confirmed", figures.confirmed),
        ("Not confirmed", figures.unconfirmed),
    )
    lockouts = bar_chart(
        "Quarantines", period, figures.since, ("Quarantined", figures.quarantined), ("Lifted", figures.lifted)
    )
    limits = visit.ctx.policy.limits
    return page(
        visit,
        "overview.html",
        figures=figures,
        period=period,
        is_week=period is WEEK,
        confirmed=confirmed,
        unconfirmed=unconfirmed,
        change=_change(confirmed, figures.confirmed_before),
        share=_share(unconfirmed, confirmed + unconfirmed),
        share_before=_share(figures.unconfirmed_before, figures.confirmed_before + figures.unconfirmed_before),
        charts=[logins, lockouts],
        events=events,
        waiting_at=limits.consecutive_before_delay,
        disabled_at=limits.consecutive_before_disabled,
    )


def _change(now: int, before: int) -> str:
    if not before:
        return "none in the period before"
    percent = round(100 * (now - before) / before)
    if not percent:
        return "as many as in the period before"
    return f"{abs(percent)} % {'more' if percent > 0 else 'fewer'} than in the period before"


def _share(part: int, whole: int) -> str:
    return "–" if not whole else f"{100 * part / whole:.1f} %"
