"""Rows of `rate_limits`: how far each bucket is from being full, as the time at which it will be.

A bucket holds `burst` tokens and regains one every `interval_s` seconds (the generic cell rate algorithm, ITU-T I.371:
`full_at` is its theoretical arrival time). A row whose time is past says no more than a missing one, and is removed at
some time. Times are Unix seconds of whichever host asks; hosts' clocks may differ by a second or so without harm.
"""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, select, text

from .prepared import Prepared
from .tables import rate_limits


def take_tokens(conn: Connection, key: bytes, tokens: int, *, burst: int, interval_s: float, now: float) -> bool:
    """Take that many tokens from a bucket if it holds them. One statement, so that callers at the same time add up."""
    values = {"key": key, "now": now, "taken": tokens * interval_s, "span": burst * interval_s}
    return _TAKE.first(conn, values) is not None


def give_tokens_back(conn: Connection, key: bytes, tokens: int, *, interval_s: float) -> None:
    """Put tokens back that were taken and not used."""
    _GIVE.run(conn, {"key": key, "given": tokens * interval_s})


def wait_s(conn: Connection, key: bytes, tokens: int, *, burst: int, interval_s: float, now: float) -> float:
    """How long until the bucket holds that many tokens: 0 if it does."""
    row = _LOAD.first(conn, {"key": key})
    if row is None:
        return 0.0
    full_at = float(row[0])
    if full_at > now + burst * interval_s + _MAX_SKEW_S:
        return 0.0
    return max(0.0, full_at + tokens * interval_s - (now + burst * interval_s))


def remove_full_buckets(conn: Connection, before: float, limit: int) -> int:
    """Forget some buckets that were full before that time, and tell how many. Rows that others are using are left."""
    return conn.execute(_FORGET, {"before": before, "most": limit}).rowcount


_MAX_SKEW_S = 60
"""How far the clocks of two hosts may be apart."""
# Both databases read this. A time so far ahead that no bucket could be that empty was written before a clock was set
# back, or under a larger burst: waiting for it could shut somebody out for as long as the clock was wrong, so that
# bucket is full.
_NOW, _SPAN = "CAST(:now AS DOUBLE PRECISION)", "CAST(:span AS DOUBLE PRECISION)"
_FULL_AT = (
    f"CASE WHEN rate_limits.full_at < {_NOW} OR rate_limits.full_at > {_NOW} + {_SPAN} + {_MAX_SKEW_S} THEN {_NOW}"
    " ELSE rate_limits.full_at END"
)
# A millisecond of slack: times are binary fractions, and the last token of a bucket must not be lost to rounding.
_TAKE = Prepared(
    text(
        "INSERT INTO rate_limits (key, full_at)"
        " SELECT :key, CAST(:now AS DOUBLE PRECISION) + CAST(:taken AS DOUBLE PRECISION)"
        " WHERE CAST(:taken AS DOUBLE PRECISION) <= CAST(:span AS DOUBLE PRECISION) + 0.001"
        f" ON CONFLICT (key) DO UPDATE SET full_at = {_FULL_AT} + CAST(:taken AS DOUBLE PRECISION)"
        f" WHERE {_FULL_AT} + CAST(:taken AS DOUBLE PRECISION)"
        " <= CAST(:now AS DOUBLE PRECISION) + CAST(:span AS DOUBLE PRECISION) + 0.001"
        " RETURNING full_at"
    )
)
_GIVE = Prepared(text("UPDATE rate_limits SET full_at = full_at - CAST(:given AS DOUBLE PRECISION) WHERE key = :key"))
_LOAD = Prepared(select(rate_limits.c.full_at).where(rate_limits.c.key == bindparam("key")))
_FORGET = delete(rate_limits).where(
    rate_limits.c.key.in_(
        select(rate_limits.c.key)
        .where(rate_limits.c.full_at < bindparam("before"))
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
)
