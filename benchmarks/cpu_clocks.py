"""CPU time of other processes, from the kernel's clock of each: nanoseconds, where /proc counts ticks of 10 ms."""

from __future__ import annotations

import time
from collections.abc import Set
from pathlib import Path


def process_cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process since it started, in user and kernel (clock_getcpuclockid(3)).

    OSError if there is no such process, or it may not be looked at.
    """
    return time.clock_gettime((~pid << 3) | 2)


def family(pid: int) -> frozenset[int]:
    """A process and all that descend from it, as they are now."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name in brackets may hold anything, brackets too; the parent is the second field after the last.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
    found: frozenset[int] = frozenset()
    level = {pid}
    while level:
        found |= level
        level = {child for child, parent in parents.items() if parent in level}
    return found


class FamilyClock:
    """CPU of a server with all its workers. A worker that ends takes what it used since the last reading with it, so
    `ended` tells how many did: figures are whole only where it is 0.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._used_s: dict[int, float] = {}
        self.ended: Set[int] = frozenset()

    def read_s(self) -> float:
        """CPU seconds of all of them, those that ended included as far as they were seen."""
        members = family(self._pid)
        self.ended |= self._used_s.keys() - members
        for pid in members:
            try:
                self._used_s[pid] = process_cpu_s(pid)
            except OSError:
                self.ended |= {pid}
        return sum(self._used_s.values())
