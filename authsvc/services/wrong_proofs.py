"""How many pairing proofs that pair nothing an enrolment may send: a bound on the arithmetic that they cost.

A wrong proof teaches nothing (it is a guess at 256 bits) and says nothing about the template, so it is not counted
against the attempt budgets: a thief of a request key could otherwise use them up without ever touching a login. But
each costs an exponentiation, so an enrolment has a few, which come back with time. A right proof that is sent again
costs the same and is counted like a wrong one. Who has used them up waits, and only for pairing: logins go on. That the
thief makes the owner wait too gives him nothing that he did not have, since one false OT proof under the same key takes
the whole enrolment out of service; lifting that replaces the key.

Kept in memory: after a restart everybody has a full allowance, which bounds the work just as well.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

from ..errors import Refused

ALLOWANCE = 10
REGAINED_AFTER_S = 30.0
_KEPT = 10_000


class WrongProofs:
    """The allowances of all enrolments. Safe to share between threads."""

    __slots__ = ("_lock", "_spent")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spent: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # (how many are spent, as of when)

    def take(self, enrolment_id: bytes, now: float) -> None:
        """Use one up before the check, so that parallel requests cannot all be let in; now: Unix seconds.

        Raises Refused("throttled") with the seconds to wait.
        """
        with self._lock:
            spent = self._spent_now(enrolment_id, now)
            if spent > ALLOWANCE - 1:
                raise Refused("throttled", retry_after_s=math.ceil((spent - ALLOWANCE + 1) * REGAINED_AFTER_S))
            self._spent[enrolment_id] = (spent + 1, now)
            self._spent.move_to_end(enrolment_id)
            if len(self._spent) > _KEPT:
                self._spent.popitem(last=False)

    def give_back(self, enrolment_id: bytes, now: float) -> None:
        """The proof paired a key, which each key does once: it costs nothing."""
        with self._lock:
            self._spent[enrolment_id] = (max(0.0, self._spent_now(enrolment_id, now) - 1), now)

    def _spent_now(self, enrolment_id: bytes, now: float) -> float:
        spent, since = self._spent.get(enrolment_id, (0.0, now))
        # A clock that was set back gives nothing back, and takes nothing either.
        return max(0.0, spent - max(0.0, now - since) / REGAINED_AFTER_S)
