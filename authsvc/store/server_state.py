"""Rows of `server_state`: what belongs to the whole database."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, insert, select, update

from .tables import enrolments, server_state


def load_state(conn: Connection, name: str) -> bytes | None:
    """The value under a name, or None."""
    value: bytes | None = conn.execute(_LOAD, {"name": name}).scalar()
    return value


def insert_state(conn: Connection, name: str, value: bytes) -> None:
    """Set a value that is written once."""
    conn.execute(_INSERT, {"name": name, "value": value})


def put_state(conn: Connection, name: str, value: bytes) -> None:
    """Set a value, whether there was one or not. For transactions beside which nobody writes."""
    if conn.execute(_UPDATE, {"row_name": name, "new_value": value}).rowcount == 0:
        insert_state(conn, name, value)


def any_enrolment(conn: Connection) -> bool:
    """Whether the database holds an enrolment."""
    return bool(conn.execute(_ANY).scalar_one())


_LOAD = select(server_state.c.value).where(server_state.c.name == bindparam("name"))
_INSERT = insert(server_state)
_UPDATE = update(server_state).where(server_state.c.name == bindparam("row_name")).values(value=bindparam("new_value"))
_ANY = select(func.count()).select_from(enrolments)
