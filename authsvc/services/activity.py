"""What the service did of late, in figures: for an operator who looks whether all is well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..store.activity import (
    DealtCount,
    count_dealt,
    count_enrolments,
    count_events,
    count_failing,
    count_logins,
    list_latest_logins,
    list_out_of_service,
)
from ..store.ceremonies import CeremonyRow, list_ceremonies
from ..store.enrolments import EnrolmentRow
from ..store.logins import LoginRow
from .context import LoginLatency, ServiceContext

HOUR_S: Final = 3600.0
_WATCHED: Final = ("enrolled", "quarantined", "quarantine_lifted", "recovered", "enrolment_revoked", "enrolment_erased")
_SHOWN_OUT_OF_SERVICE: Final = 8


@dataclass(frozen=True, slots=True)
class Period:
    """Buckets of equal length that end with the one under way. bucket_s: seconds."""

    name: str
    buckets: int
    bucket_s: float


DAY: Final = Period("24 hours", 24, HOUR_S)
WEEK: Final = Period("7 days", 28, 6 * HOUR_S)


@dataclass(frozen=True, slots=True)
class Activity:
    """Figures of a period. Sequences have one number for each bucket, oldest first.

    Attempts of an enrolment that was erased since are gone, and so not counted.
    """

    period: Period
    since: float
    now: float
    confirmed: Sequence[int]
    """Attempts of which the device proved that it opened the answer."""
    unconfirmed: Sequence[int]
    """All other counted attempts: refused, without a match, or answered and still open."""
    confirmed_before: int
    """In the period of the same length before this one."""
    unconfirmed_before: int
    open: int
    """Of the unconfirmed ones, those that can still be confirmed."""
    quarantined: Sequence[int]
    lifted: Sequence[int]
    events: dict[str, int]
    """How often each of the watched events happened."""
    by_status: dict[str, int]
    waiting: int
    """Active enrolments that have to wait before the next attempt, or are disabled."""
    disabled: int
    """Of these, those that only an operator can unlock."""
    out_of_service: Sequence[EnrolmentRow]
    latency: LoginLatency | None


def activity(ctx: ServiceContext, period: Period) -> Activity:
    """The figures now. Buckets begin at full hours, UTC."""
    now, limits = ctx.clock(), ctx.policy.limits
    until = (now // period.bucket_s + 1) * period.bucket_s
    length = period.buckets * period.bucket_s
    since = until - length
    with ctx.store.read() as conn:
        attempts = count_logins(conn, since - length, until, period.bucket_s)
        happened = count_events(conn, _WATCHED, since, until, period.bucket_s)
        by_status = count_enrolments(conn)
        waiting = count_failing(conn, limits.consecutive_before_delay)
        disabled = count_failing(conn, limits.consecutive_before_disabled)
        out_of_service = list_out_of_service(conn, limits.consecutive_before_disabled, _SHOWN_OUT_OF_SERVICE)
    confirmed, unconfirmed = [0] * period.buckets, [0] * period.buckets
    before = {True: 0, False: 0}
    still_open = 0
    for item in attempts:
        is_confirmed, at = item.state == "confirmed", item.bucket - period.buckets
        if at < 0:
            before[is_confirmed] += item.count
        else:
            (confirmed if is_confirmed else unconfirmed)[at] += item.count
            still_open += item.count if item.state == "pending" else 0
    series = {name: [0] * period.buckets for name in _WATCHED}
    for each in happened:
        series[each.name][each.bucket] += each.count
    return Activity(
        period=period,
        since=since,
        now=now,
        confirmed=confirmed,
        unconfirmed=unconfirmed,
        confirmed_before=before[True],
        unconfirmed_before=before[False],
        open=still_open,
        quarantined=series["quarantined"],
        lifted=series["quarantine_lifted"],
        events={name: sum(counts) for name, counts in series.items()},
        by_status=by_status,
        waiting=waiting,
        disabled=disabled,
        out_of_service=out_of_service,
        latency=ctx.login_latency() if ctx.login_latency is not None else None,
    )


def latest_attempts(ctx: ServiceContext, enrolment_id: bytes, limit: int = 20) -> list[LoginRow]:
    """The latest counted attempts of an enrolment, newest first."""
    with ctx.store.read() as conn:
        return list_latest_logins(conn, enrolment_id, limit)


def dealt_keys(ctx: ServiceContext) -> tuple[list[CeremonyRow], list[DealtCount]]:
    """The ceremonies that were imported, oldest first, and how many keys of each are in which state."""
    with ctx.store.read() as conn:
        return list_ceremonies(conn), count_dealt(conn, ctx.clock())
