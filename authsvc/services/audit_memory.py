"""What this process has seen of the audit log's end. The database can be put back to an older state, this cannot."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CheckpointHead:
    """Which checkpoint is the last; number 0 with a digest of zeros before there is one.

    Kept sealed in the database: whoever can only write that cannot drop the last checkpoints.
    """

    number: int
    digest: bytes

    def to_bytes(self) -> bytes:
        return self.number.to_bytes(8, "big") + self.digest

    @classmethod
    def from_bytes(cls, value: bytes) -> CheckpointHead:
        return cls(int.from_bytes(value[:8], "big"), value[8:])


class AuditMemory:
    """The highest head that a committed transaction showed to this process. Safe from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._highest: CheckpointHead | None = None

    def highest(self) -> CheckpointHead | None:
        """To be asked before a transaction begins: a head that is read in it may then be this one or a later one."""
        with self._lock:
            return self._highest

    def note(self, head: CheckpointHead) -> None:
        """What was read or written in a transaction that has ended well."""
        with self._lock:
            if self._highest is None or head.number > self._highest.number:
                self._highest = head
