"""Rate limits by address and by enrolment, shared by all workers on all hosts through the database.

What is bounded is the cost of requests, not guessing: attempts at a template are counted in `limits`, each of them, in
the transaction of its verdict. So a limit here may be a little late, and that makes it cheap: a process takes several
tokens of a bucket at a time and spends them from memory, and the first few requests of anybody are let in on credit,
to be paid for with the first tokens that are taken. Somebody who asks now and then, as an honest device does, costs
no transaction at all; a flood costs one in some dozens of requests, and its refusals none.

Over any time T one bucket gives at most burst + T / interval, plus the credit of each process for each minute of T. A
restart forgets credit and gives it anew. Tokens that a process holds when it ends are lost, not doubled. A rate
without credit (`exact`) is kept to the token.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from ..errors import Refused
from ..observation import was_limited
from ..policy import Limits
from ..store import rate_limits as rows
from .context import ServiceContext

_KEY_LABEL = b"tandem rate limit v1"


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once and one more every `interval_s` seconds. name: of the limit, in keys and metrics."""

    name: str
    burst: int
    interval_s: float
    exact: bool = False
    """Whether each request is taken from the shared bucket, without credit or lease."""

    @property
    def credit(self) -> int:
        """How many requests in a minute a process lets in on its own."""
        return 0 if self.exact else min(8, self.burst // 16)

    @property
    def lease(self) -> int:
        """How many tokens a process takes at once."""
        return 1 if self.exact else max(1, min(32, self.burst // 16))

    def key(self, subject: bytes) -> bytes:
        """Under which the bucket is stored. A hash, so that the table is no list of addresses for whoever reads it;
        with four thousand million candidates it is no secret either.
        """
        return hashlib.sha256(b"\0".join((_KEY_LABEL, self.name.encode(), subject))).digest()


PAIRING_PROOFS = Rate("pairing_proofs", burst=10, interval_s=30.0, exact=True)
"""How many pairing proofs that pair nothing an enrolment may send: a bound on the arithmetic that they cost.

A wrong proof teaches nothing (it is a guess at 256 bits) and says nothing about the template, so it is not counted
against the attempt budgets: a thief of a request key could otherwise use them up without ever touching a login. A right
proof that is sent again costs the same and is counted like a wrong one. Who has used them up waits, and only for
pairing: logins go on. That the thief makes the owner wait too gives him nothing that he did not have, since one false
OT proof under the same key takes the whole enrolment out of service; lifting that replaces the key.
"""


def by_address(limits: Limits) -> Rate | None:
    """For every request, before anything else is done for it. None: off."""
    return _rate("address", limits.address_requests_per_s, limits.address_burst)


def by_site(limits: Limits) -> Rate | None:
    """For every request from an IPv6 /48: a site, or what anybody can rent, with its 65,536 networks. None: off."""
    return _rate("site", _NETWORKS * limits.address_requests_per_s, _NETWORKS * limits.address_burst)


def by_enrolment(limits: Limits) -> Rate | None:
    """For requests of one enrolment whose signature holds. None: off."""
    return _rate("enrolment", limits.enrolment_requests_per_s, limits.enrolment_burst)


def by_confirmer(limits: Limits) -> Rate | None:
    """For confirmations sent on their own. They have a bucket of their own, so that a flood of other requests does not
    keep an honest device's token out, which would leave its login counted as a failure. None: off.
    """
    return _rate("confirmation", limits.enrolment_requests_per_s, limits.enrolment_burst)


def by_wrong_codes(limits: Limits) -> Rate | None:
    """For one-time codes that an address names in vain. None: off."""
    an_hour = limits.wrong_codes_per_hour
    return Rate("wrong_codes", an_hour, 3600.0 / an_hour, exact=True) if an_hour else None


def spend(ctx: ServiceContext, rate: Rate | None, subject: bytes) -> None:
    """Take one token. Refused("throttled") with the seconds to wait if the bucket is empty; StoreUnavailable."""
    if rate is None:
        return
    try:
        if not spend_at_hand(ctx, rate, subject):
            _take_from_store(ctx, rate, rate.key(subject))
    except Refused:
        was_limited(rate.name)
        raise


def spend_at_hand(ctx: ServiceContext, rate: Rate, subject: bytes) -> bool:
    """Take a token that this process has at hand, without the database; False if it has none.

    Refused("throttled") if the bucket is known to be empty.
    """
    now = ctx.clock()
    found = ctx.leases.spend(rate.key(subject), now, credit=rate.credit)
    if found.wait_s > 0:
        raise _refused(found.wait_s)
    return found.spent


def give_back(ctx: ServiceContext, rate: Rate | None, subject: bytes) -> None:
    """Return the token of an exact rate that was taken for something which turned out to cost nothing."""
    if rate is not None:
        with ctx.store.write_counters() as conn:
            rows.give_tokens_back(conn, rate.key(subject), 1, interval_s=rate.interval_s)


def _rate(name: str, per_s: float, burst: int) -> Rate | None:
    return Rate(name, burst, 1.0 / per_s) if per_s else None


def _take_from_store(ctx: ServiceContext, rate: Rate, key: bytes) -> None:
    now = ctx.clock()
    owed = ctx.leases.owed(key)
    burst, interval_s = rate.burst, rate.interval_s
    with ctx.store.write_counters() as conn:
        if ctx.leases.cleaning_is_due(now):
            for _ in range(_REMOVALS):
                if rows.remove_full_buckets(conn, now - _KEPT_FULL_S, _REMOVED_AT_ONCE) < _REMOVED_AT_ONCE:
                    break
        for tokens in sorted({rate.lease, 1}, reverse=True):
            if rows.take_tokens(conn, key, owed + tokens, burst=burst, interval_s=interval_s, now=now):
                wait = 0.0
                break
        else:
            wait = rows.wait_s(conn, key, owed + 1, burst=burst, interval_s=interval_s, now=now)
    if wait > 0:
        if not rate.exact:  # of those a token may be given back at any moment
            ctx.leases.refuse_until(key, now, now + wait)
        raise _refused(wait)
    ctx.leases.add(key, now, tokens=tokens - 1, paid=owed)


def _refused(wait: float) -> Refused:
    return Refused("throttled", retry_after_s=max(1, math.ceil(wait)))


_KEPT_FULL_S = 60.0
_REMOVED_AT_ONCE = 1000
_REMOVALS = 10
"""A flood from many networks makes more than a thousand rows between two cleanings."""
_NETWORKS = 8
"""How many networks of a site may use up their whole rates at the same time."""
