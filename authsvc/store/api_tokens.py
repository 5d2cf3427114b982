"""Rows of `api_tokens`: bearer tokens of the admin API, kept only as hashes, and after their end for the record."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from .tables import api_tokens


@dataclass(frozen=True, slots=True)
class ApiTokenRow:
    """One token as stored. Field order is column order. scopes: names with a space between. Times: Unix seconds."""

    id: bytes
    name: str
    scopes: str
    secret_hash: bytes = field(repr=False)
    created_at: float
    expires_at: float
    revoked_at: float | None = None
    last_used_at: float | None = None


def insert_token(conn: Connection, row: ApiTokenRow) -> None:
    """Add a token."""
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def load_token(conn: Connection, token_id: bytes) -> ApiTokenRow | None:
    """The token, or None."""
    row = conn.execute(_LOAD, {"id": token_id}).first()
    return None if row is None else ApiTokenRow(*row)


def list_tokens(conn: Connection) -> list[ApiTokenRow]:
    """All tokens, oldest first."""
    return [ApiTokenRow(*row) for row in conn.execute(_LIST)]


def mark_token_revoked(conn: Connection, token_id: bytes, now: float) -> bool:
    """End a token; False if there is none, or it was revoked before."""
    return conn.execute(_REVOKE, {"row_id": token_id, "now": now}).rowcount == 1


def note_token_use(conn: Connection, token_id: bytes, now: float, unless_since: float) -> None:
    """Note that a token was used, unless that was noted at or after a time."""
    conn.execute(_USED, {"row_id": token_id, "now": now, "since": unless_since})


_COLUMNS = tuple(item.name for item in fields(ApiTokenRow))
_ALL = [api_tokens.c[name] for name in _COLUMNS]
_INSERT = insert(api_tokens)
_LOAD = select(*_ALL).where(api_tokens.c.id == bindparam("id"))
_LIST = select(*_ALL).order_by(api_tokens.c.created_at, api_tokens.c.id)
_BY_ID = update(api_tokens).where(api_tokens.c.id == bindparam("row_id"))
_REVOKE = _BY_ID.where(api_tokens.c.revoked_at.is_(None)).values(revoked_at=bindparam("now"))
_USED = _BY_ID.where(or_(api_tokens.c.last_used_at.is_(None), api_tokens.c.last_used_at < bindparam("since"))).values(
    last_used_at=bindparam("now")
)
