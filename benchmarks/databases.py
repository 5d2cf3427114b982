"""A database for one run: a SQLite file, or one made on a PostgreSQL server and dropped again."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from authsvc.store.sqlite import sqlite_url
from benchmarks.cpu_clocks import process_cpu_s

BACKENDS = ("sqlite", "postgresql")
ADMINISTRATION = os.environ.get("TANDEM_TEST_POSTGRESQL", "postgresql://127.0.0.1:5432/test")
"""An administrative database of the PostgreSQL server, from which others can be made."""


def postgresql_is_reachable() -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(ADMINISTRATION, connect_timeout=2):
        return True
    return False


@contextmanager
def new_database(backend: str, directory: Path) -> Iterator[str]:
    """The URL of an empty database, which is there inside the `with` block. psycopg.Error if it cannot be made."""
    if backend == "sqlite":
        yield sqlite_url(directory / "authsvc.db").render_as_string()
        return
    name = f"tandem_run_{secrets.token_hex(8)}"
    with psycopg.connect(ADMINISTRATION, autocommit=True) as administration:
        administration.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield make_url(ADMINISTRATION).set(database=name).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(ADMINISTRATION, autocommit=True) as administration:
            administration.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class Backends:
    """The processes that PostgreSQL runs for one database. Asked from another one, so the asking is not among them."""

    def __init__(self, url: str) -> None:
        self._name = make_url(url).database
        self._connection: psycopg.Connection[Any] = psycopg.connect(ADMINISTRATION, autocommit=True)

    def pids(self) -> list[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = %s ORDER BY pid"
        return [row[0] for row in self._connection.execute(query, [self._name])]

    def terminate(self, pid: int) -> bool:
        """Cut one off, as an operator or a failing server would. Whether it was still there."""
        row = self._connection.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone()
        return row is not None and bool(row[0])

    def close(self) -> None:
        self._connection.close()


class BackendsClock:
    """CPU of a database's backends, where they run on this machine.

    Read it often: what a backend used between the last reading and its end is lost, and `ended` tells how many ended.
    """

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._used_s: dict[int, float] = {}
        self.ended: Set[int] = frozenset()

    def read_s(self) -> float | None:
        """CPU seconds of all backends ever seen; None where the processes cannot be seen from here."""
        pids = self._backends.pids()
        self.ended |= self._used_s.keys() - set(pids)
        for pid in pids:
            try:
                # On another host or in another container the same number is some other process, or none.
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() != "postgres":
                    return None
                self._used_s[pid] = process_cpu_s(pid)
            except OSError:
                if pid in self._backends.pids():
                    return None
                self.ended |= {pid}
        return sum(self._used_s.values())
