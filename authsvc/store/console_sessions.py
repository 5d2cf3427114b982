"""Rows of `console_sessions`: who is signed in to the web console. Only the hash of a session's id is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from .tables import console_sessions


@dataclass(frozen=True, slots=True)
class ConsoleSessionRow:
    """One session as stored. Field order is column order. Times: Unix seconds."""

    id_hash: bytes = field(repr=False)
    token_id: bytes
    created_at: float
    expires_at: float
    """When it ends if nobody uses it before."""


def insert_session(conn: Connection, row: ConsoleSessionRow) -> None:
    """Add a session."""
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def load_session(conn: Connection, id_hash: bytes) -> ConsoleSessionRow | None:
    """The session, ended or not, or None."""
    row = conn.execute(_LOAD, {"id_hash": id_hash}).first()
    return None if row is None else ConsoleSessionRow(*row)


def extend_session(conn: Connection, id_hash: bytes, expires_at: float) -> None:
    """Move the end of a session; nothing happens if it is gone."""
    conn.execute(_EXTEND, {"row_id_hash": id_hash, "until": expires_at})


def delete_session(conn: Connection, id_hash: bytes) -> bool:
    """End a session; False if there was none."""
    return conn.execute(_DELETE, {"row_id_hash": id_hash}).rowcount == 1


def delete_ended_sessions(conn: Connection, now: float) -> None:
    """Remove what is over."""
    conn.execute(_DELETE_ENDED, {"now": now})


_COLUMNS = ("id_hash", "token_id", "created_at", "expires_at")
_TABLE = console_sessions.c
_INSERT = insert(console_sessions)
_LOAD = select(*(_TABLE[name] for name in _COLUMNS)).where(_TABLE.id_hash == bindparam("id_hash"))
_EXTEND = (
    update(console_sessions).where(_TABLE.id_hash == bindparam("row_id_hash")).values(expires_at=bindparam("until"))
)
_DELETE = delete(console_sessions).where(_TABLE.id_hash == bindparam("row_id_hash"))
_DELETE_ENDED = delete(console_sessions).where(_TABLE.expires_at <= bindparam("now"))
