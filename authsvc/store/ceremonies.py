"""Rows of `ceremonies`: the latest manifest imported of each ceremony, so that an older one is known as such."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from .tables import ceremonies


@dataclass(frozen=True, slots=True)
class CeremonyRow:
    """One ceremony as stored. Field order is column order. manifest_hash: SHA-256 over what was signed."""

    ceremony_id: bytes
    revision: int
    manifest_hash: bytes
    signing_key: bytes
    imported_at: float
    revoked_at: float | None = None
    """When the ceremony was revoked as a whole; no later revision of it is taken then."""


def load_ceremony(conn: Connection, ceremony_id: bytes) -> CeremonyRow | None:
    """The ceremony, or None if nothing of it was imported."""
    row = conn.execute(_LOAD, {"id": ceremony_id}).first()
    return None if row is None else CeremonyRow(*row)


def list_ceremonies(conn: Connection) -> list[CeremonyRow]:
    """All ceremonies, oldest first."""
    return [CeremonyRow(*row) for row in conn.execute(_LIST)]


def store_ceremony(conn: Connection, row: CeremonyRow) -> None:
    """Set the row of a ceremony, whether there was one or not."""
    conn.execute(_DELETE, {"id": row.ceremony_id})
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def mark_ceremony_revoked(conn: Connection, ceremony_id: bytes, now: float) -> bool:
    """Note that the ceremony was revoked as a whole; False if that was known. now: Unix seconds."""
    return conn.execute(_REVOKE, {"id": ceremony_id, "now": now}).rowcount == 1


_COLUMNS = tuple(item.name for item in fields(CeremonyRow))
_ALL = select(*(ceremonies.c[name] for name in _COLUMNS))
_LOAD = _ALL.where(ceremonies.c.ceremony_id == bindparam("id"))
_LIST = _ALL.order_by(ceremonies.c.imported_at, ceremonies.c.ceremony_id)
_DELETE = delete(ceremonies).where(ceremonies.c.ceremony_id == bindparam("id"))
_INSERT = insert(ceremonies)
_REVOKE = (
    update(ceremonies)
    .where(ceremonies.c.ceremony_id == bindparam("id"), ceremonies.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)
