"""Counts over all enrolments, for people who watch the service. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from sqlalchemy import ColumnElement, Connection, Float, Integer, and_, case, cast, func, literal, or_, select

from .enrolments import EnrolmentRow
from .logins import LoginRow
from .tables import credentials, enrolments, events, logins


@dataclass(frozen=True, slots=True)
class LoginCount:
    """Counted attempts of one state in one bucket, which is numbered from the beginning of the period."""

    bucket: int
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class EventCount:
    """Events of one name in one bucket."""

    bucket: int
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class DealtCount:
    """Dealt keys of one ceremony and status; `expired` tells those whose last second is over."""

    ceremony_id: bytes
    status: str
    expired: bool
    count: int


def count_logins(conn: Connection, since: float, until: float, bucket_s: float) -> list[LoginCount]:
    """The attempts of a period, `since` included and `until` not."""
    bucket = _bucket(logins.c.at, since, bucket_s)
    query = (
        select(bucket, logins.c.state, func.count())
        .where(logins.c.at >= since, logins.c.at < until)
        .group_by(bucket, logins.c.state)
    )
    return [LoginCount(int(row[0]), row[1], row[2]) for row in conn.execute(query)]


def count_events(
    conn: Connection, names: Collection[str], since: float, until: float, bucket_s: float
) -> list[EventCount]:
    """The events with these names in a period."""
    bucket = _bucket(events.c.at, since, bucket_s)
    query = (
        select(bucket, events.c.name, func.count())
        .where(events.c.name.in_(names), events.c.at >= since, events.c.at < until)
        .group_by(bucket, events.c.name)
    )
    return [EventCount(int(row[0]), row[1], row[2]) for row in conn.execute(query)]


def count_enrolments(conn: Connection) -> dict[str, int]:
    """How many enrolments there are of each status; what is left of erased ones does not count."""
    query = (
        select(enrolments.c.status, func.count()).where(enrolments.c.status != "erased").group_by(enrolments.c.status)
    )
    return {row[0]: row[1] for row in conn.execute(query)}


def count_failing(conn: Connection, failures: int) -> int:
    """How many active enrolments have at least that many unconfirmed attempts in a row."""
    query = (
        select(func.count())
        .select_from(enrolments)
        .where(enrolments.c.status == "active", enrolments.c.consecutive_failures >= failures)
    )
    return int(conn.execute(query).scalar_one())


def list_out_of_service(conn: Connection, disabled_at: int, limit: int) -> list[EnrolmentRow]:
    """Enrolments that wait for an operator: quarantined, or with that many unconfirmed attempts in a row; the latest
    first.
    """
    table = enrolments.c
    query = (
        select(*(table[item.name] for item in fields(EnrolmentRow)))
        .where(
            or_(
                table.status == "quarantined",
                and_(table.status == "active", table.consecutive_failures >= disabled_at),
            )
        )
        .order_by(table.updated_at.desc(), table.id)
        .limit(limit)
    )
    return [EnrolmentRow(*row) for row in conn.execute(query)]


def list_latest_logins(conn: Connection, enrolment_id: bytes, limit: int) -> list[LoginRow]:
    """The latest counted attempts of an enrolment, newest first."""
    query = (
        select(*(logins.c[item.name] for item in fields(LoginRow)))
        .where(logins.c.enrolment_id == enrolment_id)
        .order_by(logins.c.ot_index.desc())
        .limit(limit)
    )
    return [LoginRow(*row) for row in conn.execute(query)]


def count_dealt(conn: Connection, now: float) -> list[DealtCount]:
    """The dealt keys by ceremony and status."""
    table = credentials.c
    expired = case((and_(table.not_after.is_not(None), cast(table.not_after, Float) < now), 1), else_=0)
    query = (
        select(table.ceremony_id, table.status, expired, func.count())
        .where(table.ceremony_id.is_not(None))
        .group_by(table.ceremony_id, table.status, expired)
    )
    return [DealtCount(bytes(row[0]), row[1], bool(row[2]), row[3]) for row in conn.execute(query)]


def _bucket(at: ColumnElement[float], since: float, bucket_s: float) -> ColumnElement[int]:
    # floor() before the cast: PostgreSQL rounds a cast, SQLite cuts; the literals are bound once and not per use, or
    # PostgreSQL takes the column in GROUP BY for another one than the selected.
    return cast(func.floor((at - _number(since)) / _number(bucket_s)), Integer)


def _number(value: float) -> ColumnElement[float]:
    return literal(float(value), Float, literal_execute=True)
