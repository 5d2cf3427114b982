"""The site's SQLite file: its tables, and transactions on it."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE site_secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
CREATE TABLE users (
    id INTEGER PRIMARY KEY,
    handle BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    display_name TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
CREATE TABLE credentials (
    id BLOB PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    public_key BLOB NOT NULL,
    algorithm INTEGER NOT NULL,
    attestation TEXT NOT NULL,
    sign_count INTEGER NOT NULL,
    created_at REAL NOT NULL,
    last_used_at REAL,
    counter_refused_at REAL
) STRICT;
CREATE INDEX credentials_of_user ON credentials(user_id);
CREATE TABLE sessions (
    token_hash BLOB PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    credential_id BLOB NOT NULL REFERENCES credentials(id) ON DELETE CASCADE,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX sessions_of_credential ON sessions(credential_id);
CREATE TABLE challenges (
    challenge BLOB PRIMARY KEY,
    browser_hash BLOB NOT NULL,
    purpose TEXT NOT NULL,
    handle BLOB,
    name TEXT,
    display_name TEXT,
    expires_at REAL NOT NULL
) STRICT;
CREATE INDEX challenges_of_browser ON challenges(browser_hash);
CREATE INDEX challenges_by_expiry ON challenges(expires_at);
"""


class Database:
    """One SQLite file in WAL mode. Made on first use; a file of another schema version is refused.

    Every transaction has a connection of its own and takes the write lock at its start, so what it reads is
    still true when it writes, whatever other threads or processes do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute("INSERT INTO site_secrets VALUES ('site key', ?)", (secrets.token_bytes(32),))
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise ValueError(f"the database has schema version {version}, this program {SCHEMA_VERSION}")
            # 32 random bytes kept with the data: the key of CSRF tokens and of decoy credential ids.
            row = connection.execute("SELECT value FROM site_secrets WHERE name = 'site key'").fetchone()
            self.site_key: bytes = row[0]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commits when the block ends, rolls back when it raises."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        return connection
