"""What one ceremony cost: steps with their wall time, and bytes each way. Nothing secret."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CeremonyReport:
    """`steps`: (name, milliseconds) in order. `bytes_up`, `bytes_down`: bodies sent to and received from the server.

    `requests`: POSTs that the ceremony waited for; the confirmation in the background is not among them.
    """

    kind: str
    steps: tuple[tuple[str, float], ...]
    bytes_up: int
    bytes_down: int
    requests: int


class ReportBuilder:
    """Collects a report while a ceremony runs."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._steps: list[tuple[str, float]] = []
        self._bytes_up = 0
        self._bytes_down = 0
        self._requests = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block under `name`; a name met before gets the sum."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1000
            for at, (known, ms) in enumerate(self._steps):
                if known == name:
                    self._steps[at] = (name, ms + spent)
                    break
            else:
                self._steps.append((name, spent))

    def exchanged(self, bytes_up: int, bytes_down: int) -> None:
        self._bytes_up += bytes_up
        self._bytes_down += bytes_down
        self._requests += 1

    def finish(self) -> CeremonyReport:
        return CeremonyReport(self._kind, tuple(self._steps), self._bytes_up, self._bytes_down, self._requests)
