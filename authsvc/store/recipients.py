"""Rows of `recipients`: this server's own keys for receiving its halves in a ceremony."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from sqlalchemy import Connection, bindparam, insert, select, update

from .tables import recipients


@dataclass(frozen=True, slots=True)
class RecipientRow:
    """One recipient as stored. Field order is column order. A retired one has no private key any more."""

    id: bytes
    suite: str
    name: str
    document: bytes = field(repr=False)
    sealed_key: bytes | None = field(repr=False)
    created_at: float
    retired_at: float | None = None


def insert_recipient(conn: Connection, row: RecipientRow) -> None:
    """Add a recipient."""
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def load_recipient(conn: Connection, recipient_id: bytes) -> RecipientRow | None:
    """The recipient, or None."""
    row = conn.execute(_LOAD, {"id": recipient_id}).first()
    return None if row is None else RecipientRow(*row)


def list_recipients(conn: Connection) -> list[RecipientRow]:
    """All recipients, oldest first."""
    return [RecipientRow(*row) for row in conn.execute(_LIST)]


def retire_recipient(conn: Connection, recipient_id: bytes, at: float) -> None:
    """Mark retired and erase the private key. KeyError if there is no such row."""
    if conn.execute(_RETIRE, {"row_id": recipient_id, "at": at}).rowcount != 1:
        raise KeyError("no such recipient")


_COLUMNS = tuple(item.name for item in fields(RecipientRow))
_ALL = [recipients.c[name] for name in _COLUMNS]
_INSERT = insert(recipients)
_LOAD = select(*_ALL).where(recipients.c.id == bindparam("id"))
_LIST = select(*_ALL).order_by(recipients.c.created_at, recipients.c.id)
_RETIRE = (
    update(recipients).where(recipients.c.id == bindparam("row_id")).values(sealed_key=None, retired_at=bindparam("at"))
)
