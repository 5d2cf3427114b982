"""Brings the database to the revision of this code. Run at every start, and by `authsvc migrate`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from ..sealing import DataKey
from .engine import Store


class MigrationError(Exception):
    """The database is at a revision this version does not know: it was used by a newer one. Upgrade the
    server.
    """


class DowngradeRefused(MigrationError):
    """Nothing was changed; the database is at the revision it had."""


class OldKeys(Protocol):
    """What going back below revision 0003 needs, to seal everything again as revision 0002 did."""

    def data_key(self, owner_id: bytes, kek_id: bytes, wrapped: bytes) -> DataKey:
        """An owner's data key. Raises SealingError, KeyUnavailable."""

    def revision_0002_key(self, owner_id: bytes) -> DataKey | None:
        """The data key that revision 0002 derives for the owner from the KEK; None if its bytes are not here."""


_ONE_RUN = threading.Lock()


def upgrade(store: Store, revision: str = "head") -> None:
    """Upgrade in one exclusive transaction; nothing happens if the database is at `revision` already."""
    _run(store, revision, up=True)


def downgrade(store: Store, revision: str, keys: OldKeys | None = None) -> None:
    """Go back to `revision` ("base" removes every table). Raises DowngradeRefused.

    keys: needed to go below revision 0003, unless nothing is sealed.
    """
    _run(store, revision, up=False, keys=keys)


def current_revision(conn: Connection) -> str | None:
    """The revision the database is at, or None for an empty one."""
    return MigrationContext.configure(conn).get_current_revision()


def head_revision() -> str | None:
    """The revision this code was written for."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _run(store: Store, revision: str, *, up: bool, keys: OldKeys | None = None) -> None:
    config = _config()
    # Alembic hands its context to the scripts through module globals: one run at a time in a process.
    with _ONE_RUN, store.write() as conn:
        if conn.dialect.name == "postgresql":
            # Scripts compute between two statements, the longer the more rows there are.
            conn.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        config.attributes["connection"] = conn
        config.attributes["old_keys"] = keys
        try:
            (command.upgrade if up else command.downgrade)(config, revision)
        except CommandError as error:
            raise MigrationError("the database is at a revision that this version does not know") from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config
