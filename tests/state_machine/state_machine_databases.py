"""The server's database under a test: a SQLite file, or a PostgreSQL database whose URL stands in a file of that name.

PostgreSQL is looked for at TANDEM_TEST_POSTGRESQL, an administrative database from which others can be made.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from authsvc.store import migrate
from authsvc.store.engine import Store
from authsvc.store.sqlite import sqlite_url

NAME = "server.db"
ADMINISTRATION = os.environ.get("TANDEM_TEST_POSTGRESQL", "postgresql://127.0.0.1:5432/test")
ON_ONE_DATABASE = pytest.mark.parametrize("enrolled_folder", ["sqlite"], indirect=True)
"""For a test in which only the device dies, at every one of its writes: the database takes no part in that."""
_PREFIX = "postgresql://"
_made: list[str] = []


@lru_cache
def postgresql_is_reachable() -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(ADMINISTRATION, connect_timeout=2):
        return True
    return False


BACKENDS = ["sqlite", "postgresql"] if postgresql_is_reachable() else ["sqlite"]


def new_database(folder: Path, backend: str) -> None:
    """An empty database at this code's revision, found by `database_url` from then on."""
    if backend == "postgresql":
        (folder / NAME).write_text(_create(None))
    store = Store(database_url(folder))
    migrate.upgrade(store)
    store.close()


def database_url(folder: Path) -> URL:
    path = folder / NAME
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(_PREFIX)) == _PREFIX.encode():
                return make_url(path.read_text())
    return sqlite_url(path)


def copy_database(source: Path, target: Path) -> None:
    """The database of one folder, as it is, for another. Nobody may be using it."""
    url = database_url(source)
    if url.get_backend_name() == "sqlite":
        shutil.copy(source / NAME, target / NAME)
    else:
        (target / NAME).write_text(_create(url.database))


def snapshot(folder: Path) -> Callable[[], None]:
    """Keep the database as it is now; call the result to go back to it. Nobody may be using it at either moment."""
    url = database_url(folder)
    if url.get_backend_name() == "sqlite":
        content = (folder / NAME).read_bytes()
        return lambda: _write(folder / NAME, content)
    kept, name = make_url(_create(url.database)).database, url.database
    assert kept is not None and name is not None

    def restore() -> None:
        _administer("DROP DATABASE {} WITH (FORCE)", name)
        _administer("CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG", name, kept)

    return restore


def assert_sound(folder: Path) -> None:
    """SQLite's own checks of a file that a killed process left; PostgreSQL's server checks its files by itself."""
    if database_url(folder).get_backend_name() == "sqlite":
        with sqlite3.connect(folder / NAME) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("PRAGMA foreign_key_check").fetchone() is None


def impatient(store: Store) -> None:
    """Its connections wait for others' locks for a millisecond only."""
    store.close()  # also the connections that threads keep
    patience = {"sqlite": "PRAGMA busy_timeout=1", "postgresql": "SET lock_timeout = '1ms'"}
    with store.engine.connect() as pooled:
        pooled.exec_driver_sql(patience[store.engine.dialect.name])


def drop_databases() -> None:
    """Remove every PostgreSQL database that this process has made."""
    # Each needs a checkpoint, and those that wait at the same time share one.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(partial(_administer, "DROP DATABASE IF EXISTS {} WITH (FORCE)"), _made))
    _made.clear()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _create(template: str | None) -> str:
    # WAL_LOG needs no checkpoint: a small database is there in a quarter of the time that FILE_COPY takes.
    name = f"tandem_test_{secrets.token_hex(8)}"
    if template is None:
        _administer("CREATE DATABASE {}", name)
    else:
        _administer("CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG", name, template)
    _made.append(name)
    return make_url(ADMINISTRATION).set(database=name).render_as_string(hide_password=False)


def _administer(statement: str, *names: str) -> None:
    with psycopg.connect(ADMINISTRATION, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
