"""Rows of `data_keys`: each owner's wrapped data key, and of `keks`: what has become of each key-encryption key (KEK).

| status of a KEK | means |
|---|---|
| current | new data keys are wrapped under it; there is one |
| leaving | a rotation is taking the rows away from it; it still opens those that are left |
| retired | the rotation is complete: nothing under it is opened any more |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from .prepared import Prepared
from .tables import data_keys, keks

KekStatus = Literal["current", "leaving", "retired"]


@dataclass(frozen=True, slots=True)
class DataKeyRow:
    """One owner's data key as stored."""

    owner_id: bytes
    kek_id: bytes
    wrapped: bytes = field(repr=False)


def load_data_key(conn: Connection, owner_id: bytes) -> tuple[DataKeyRow, KekStatus | None] | None:
    """The row and what has become of its KEK (None: nothing is known of it); None without a row."""
    row = _LOAD.first(conn, {"owner_id": owner_id})
    return None if row is None else (DataKeyRow(*row[:3]), row[3])


def insert_data_keys(conn: Connection, rows: list[DataKeyRow]) -> None:
    """Add the data keys of new owners."""
    if rows:
        conn.execute(
            _INSERT, [{"owner_id": row.owner_id, "kek_id": row.kek_id, "wrapped": row.wrapped} for row in rows]
        )


def delete_data_key(conn: Connection, owner_id: bytes) -> bool:
    """Erase an owner's data key: whatever is sealed under it can be opened by nobody any more, also in backups, once
    the KEK that they need is destroyed. Whether there was one.
    """
    return conn.execute(_DELETE, {"row_owner_id": owner_id}).rowcount == 1


def data_keys_under_others(conn: Connection, kek_id: bytes, after: bytes, limit: int) -> list[DataKeyRow]:
    """Rows that are not under that KEK, in the order of owners, beginning behind the owner `after`."""
    rows = conn.execute(_UNDER_OTHERS, {"row_kek_id": kek_id, "after": after, "row_limit": limit})
    return [DataKeyRow(*row) for row in rows]


def count_data_keys(conn: Connection, kek_id: bytes) -> tuple[int, int]:
    """(rows under that KEK, all rows)."""
    row = conn.execute(_COUNT, {"row_kek_id": kek_id}).one()
    return int(row[0]), int(row[1])


def rewrap_data_key(conn: Connection, before: DataKeyRow, after: DataKeyRow) -> bool:
    """Replace a row, unless it has changed or gone since it was read; whether it was replaced."""
    values = {
        "row_owner_id": before.owner_id,
        "row_kek_id": before.kek_id,
        "row_wrapped": before.wrapped,
        "kek_id": after.kek_id,
        "wrapped": after.wrapped,
    }
    return conn.execute(_REWRAP, values).rowcount == 1


def current_kek(conn: Connection) -> bytes | None:
    """The id of the KEK that is current, or None in a database that has none yet."""
    row = conn.execute(_CURRENT).first()
    return None if row is None else bytes(row[0])


def kek_status(conn: Connection, kek_id: bytes) -> KekStatus | None:
    """What has become of a KEK, or None if nothing is known of it."""
    found: KekStatus | None = conn.execute(_STATUS, {"row_id": kek_id}).scalar()
    return found


def set_kek_status(conn: Connection, kek_id: bytes, status: KekStatus, at: float) -> None:
    """Record a KEK for the first time, or what has become of it. at: Unix seconds."""
    if conn.execute(_SET_STATUS, {"row_id": kek_id, "status": status, "since": at}).rowcount == 0:
        conn.execute(_INSERT_KEK, {"id": kek_id, "status": status, "since": at})


def retire_leaving_keks(conn: Connection, at: float) -> list[bytes]:
    """Move every KEK that is leaving to retired; their ids."""
    ids = [bytes(row[0]) for row in conn.execute(_LEAVING)]
    for kek_id in ids:
        set_kek_status(conn, kek_id, "retired", at)
    return ids


_LOAD = Prepared(
    select(data_keys.c.owner_id, data_keys.c.kek_id, data_keys.c.wrapped, keks.c.status)
    .select_from(data_keys.outerjoin(keks, keks.c.id == data_keys.c.kek_id))
    .where(data_keys.c.owner_id == bindparam("owner_id"))
)
_INSERT = insert(data_keys)
_DELETE = delete(data_keys).where(data_keys.c.owner_id == bindparam("row_owner_id"))
_UNDER_OTHERS = (
    select(data_keys.c.owner_id, data_keys.c.kek_id, data_keys.c.wrapped)
    .where(data_keys.c.kek_id != bindparam("row_kek_id"), data_keys.c.owner_id > bindparam("after"))
    .order_by(data_keys.c.owner_id)
    .limit(bindparam("row_limit"))
)
_COUNT = select(func.count().filter(data_keys.c.kek_id == bindparam("row_kek_id")), func.count()).select_from(data_keys)
_REWRAP = (
    update(data_keys)
    .where(
        data_keys.c.owner_id == bindparam("row_owner_id"),
        data_keys.c.kek_id == bindparam("row_kek_id"),
        data_keys.c.wrapped == bindparam("row_wrapped"),
    )
    .values(kek_id=bindparam("kek_id"), wrapped=bindparam("wrapped"))
)
_CURRENT = select(keks.c.id).where(keks.c.status == "current")
_LEAVING = select(keks.c.id).where(keks.c.status == "leaving").order_by(keks.c.id)
_STATUS = select(keks.c.status).where(keks.c.id == bindparam("row_id"))
_SET_STATUS = (
    update(keks).where(keks.c.id == bindparam("row_id")).values(status=bindparam("status"), since=bindparam("since"))
)
_INSERT_KEK = insert(keks)
