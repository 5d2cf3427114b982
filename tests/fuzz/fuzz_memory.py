"""How much a process grows over many inputs: a reader that keeps something of each would be stopped by the kernel."""

from __future__ import annotations

import gc
import os
from pathlib import Path

_WARM_UP = 0.2
"""Of the inputs; caches of libraries and of the interpreter fill meanwhile."""
_LOOK_EVERY = 500


class Memory:
    """Growth of this process from the end of its warm-up on. Call `note` for each of `inputs`."""

    def __init__(self, inputs: int) -> None:
        self._start_at = max(1, int(inputs * _WARM_UP))
        self._done = 0
        self._before: int | None = None
        self.grown = 0
        """Bytes."""

    def note(self) -> None:
        self._done += 1
        if self._done == self._start_at:
            gc.collect()
            self._before = resident_bytes()
        elif self._before is not None and self._done % _LOOK_EVERY == 0:
            self.grown = max(0, resident_bytes() - self._before)


def resident_bytes() -> int:
    """Resident memory of this process; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
