"""Who is killed, and when. SIGKILL leaves no chance to tidy up; a cut connection is the database's doing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.cpu_clocks import family

_WITHIN_S = 0.3


class Faults:
    """Draws faults as logins are done: after each login one of every kind with its own chance, at a random moment
    soon after. So nothing is killed while nothing goes on, and everything is killed in the midst of something.
    """

    def __init__(self, rng: random.Random, ways: Mapping[str, tuple[float, Callable[[], bool]]]) -> None:
        """ways: for each kind the number of logins between two, on average, and how it is done; it tells whether there
        was something to kill.
        """
        self._rng, self._ways = rng, ways
        self._due: list[tuple[float, str]] = []
        self.done: Counter[str] = Counter(dict.fromkeys(ways, 0))

    def login_done(self) -> None:
        for kind, (gap, _) in self._ways.items():
            if self._rng.random() < 1 / gap:
                self._due.append((time.monotonic() + self._rng.uniform(0, _WITHIN_S), kind))

    def strike(self) -> None:
        """Whatever is due."""
        now = time.monotonic()
        due, self._due = [one for one in self._due if one[0] <= now], [one for one in self._due if one[0] > now]
        for _, kind in due:
            if self._ways[kind][1]():
                self.done[kind] += 1


def kill_a_worker(rng: random.Random, supervisor: int) -> bool:
    """One of the processes that the supervisor has spawned to serve."""
    workers = [pid for pid in family(supervisor) - {supervisor} if _is_worker(pid)]
    if not workers:
        return False
    with suppress(ProcessLookupError):
        os.kill(rng.choice(sorted(workers)), signal.SIGKILL)
        return True
    return False


def _is_worker(pid: int) -> bool:
    # The supervisor's other child keeps account of semaphores, and serves nobody.
    with suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
