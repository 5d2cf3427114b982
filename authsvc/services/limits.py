"""Attempt limits and query budgets (NIST SP 800-63B-4, section 3.2.3, and the search for a template's centre).

Consecutive counters stop guessing. They do not stop somebody who mixes his questions with genuine successes:
a template falls in a number of answers linear in its length. The budgets are not restored by success.
"""

from __future__ import annotations

import math

from sqlalchemy import Connection

from ..errors import Refused
from ..policy import DAY_S, Limits
from ..store.enrolments import EnrolmentRow
from ..store.logins import nth_latest_attempt_time, unconfirmed_count_since

MAX_INDEX_JUMP = 2**20
"""How far above the last index a message may go; a device that lost many logins in a row is well within it."""
MAX_SKEW_S = 60.0
"""How far the clocks of two hosts may be apart."""


def check_delay(limits: Limits, enrolment: EnrolmentRow, now: float) -> None:
    """Whether unconfirmed attempts in a row stand against one more attempt now; part of row L1.

    Raises Refused: "not_active" (disabled), "throttled" with the seconds to wait.
    """
    if enrolment.consecutive_failures >= limits.consecutive_before_disabled:
        raise Refused("not_active")
    delay = limits.delay_s(enrolment.consecutive_failures)
    last = enrolment.last_attempt_at
    # A last attempt that lies well ahead means that the clock was set back: one attempt goes undelayed and is dated
    # anew, where waiting for the clock to catch up could lock a user out for as long as it was wrong. A little ahead,
    # it was made on another host.
    if delay and last is not None and last - MAX_SKEW_S <= now < last + delay:
        raise Refused("throttled", retry_after_s=math.ceil(last + delay - now))


def check_budgets(conn: Connection, limits: Limits, enrolment: EnrolmentRow, cost: int, now: float) -> None:
    """Whether the budgets allow one more attempt of this cost (the number of templates); part of row L1.

    Raises Refused("budget_spent").
    """
    if enrolment.template_attempts + cost > limits.attempts_per_template:
        raise Refused("budget_spent")
    if unconfirmed_count_since(conn, enrolment.id, now - 30 * DAY_S) + cost > limits.unconfirmed_per_30_days:
        raise Refused("budget_spent")
    a_day = limits.attempts_per_day // cost
    latest = nth_latest_attempt_time(conn, enrolment.id, a_day) if a_day else now
    if latest is not None and latest > now - DAY_S:
        raise Refused("budget_spent")
