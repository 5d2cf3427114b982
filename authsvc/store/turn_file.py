"""Turns between processes on one machine: byte ranges of a lock file beside a SQLite database.

A lock of POSIX belongs to a process and ends with it, so a crash blocks nobody. Two properties shape this file. Closing
*any* descriptor of a file drops all locks that the process has on it: so there is one descriptor a process, it is never
closed while a store is in use, and it is not the database's own file, whose locks are SQLite's. And within a process
such a lock excludes nobody: so the threads, and the stores, of one process share one `TurnFile`, which keeps its own
list.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import weakref
from pathlib import Path

from .turns import WAIT_S

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.002, 0.05


class TurnFile:
    """The lock file of one database, opened at the first turn."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._held: set[int] = set()
        self._descriptor: int | None = None

    def take(self, key: int, *, wait: bool) -> bool:
        """Whether the turn is ours now; `wait`: up to `WAIT_S`. sqlite3.OperationalError if the file cannot be used."""
        until = time.monotonic() + (WAIT_S if wait else 0.0)
        with self._changed:
            if not self._changed.wait_for(lambda: key not in self._held, max(0.0, until - time.monotonic())):
                return False
            self._held.add(key)
        taken = False
        try:
            taken = self._lock(key, until)
        except OSError as error:
            raise sqlite3.OperationalError(f"{self._path.name} cannot be locked: {error.strerror}") from error
        finally:
            if not taken:
                self._forget(key)
        return taken

    def give(self, key: int) -> None:
        """The turn is over."""
        assert self._descriptor is not None
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, key)
        finally:
            self._forget(key)

    def _lock(self, key: int, until: float) -> bool:
        # Polling, since a system call that waits for another process's lock has no time limit.
        descriptor, pause = self._opened(), _FIRST_PAUSE_S
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, key)
                return True
            except (BlockingIOError, PermissionError):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                time.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _opened(self) -> int:
        with self._changed:
            if self._descriptor is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._descriptor = os.open(self._path, flags, 0o600)
                weakref.finalize(self, os.close, self._descriptor)
            return self._descriptor

    def _forget(self, key: int) -> None:
        with self._changed:
            self._held.discard(key)
            self._changed.notify_all()


_files: weakref.WeakValueDictionary[str, TurnFile] = weakref.WeakValueDictionary()
_files_guard = threading.Lock()


def turn_file(database: Path) -> TurnFile:
    """The one of this process for a database, named after it with `-turns` at the end."""
    path = os.path.realpath(database) + "-turns"
    with _files_guard:
        found = _files.get(path)
        if found is None:
            found = _files[path] = TurnFile(Path(path))
        return found
