"""Rows of `credentials`: the server's share of one RSA key each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, literal_column, select, update

from .prepared import Prepared
from .tables import credentials, logins

CredentialStatus = Literal["provisional", "active", "revoked"]


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One credential as stored. Field order is column order."""

    id: bytes
    enrolment_id: bytes
    rp_id: str
    algorithm: int
    modulus: bytes
    exponent: int
    sealed_share: bytes | None = field(repr=False)
    status: CredentialStatus
    sign_count: int
    created_at: float


def load_credential(conn: Connection, credential_id: bytes) -> CredentialRow | None:
    """The credential, or None."""
    row = _LOAD.first(conn, {"id": credential_id})
    return None if row is None else CredentialRow(*row)


def list_credentials(conn: Connection, enrolment_id: bytes) -> list[CredentialRow]:
    """All credentials of an enrolment, oldest first."""
    return [CredentialRow(*row) for row in conn.execute(_LIST, {"enrolment_id": enrolment_id})]


def count_credentials(conn: Connection, enrolment_id: bytes) -> int:
    """How many credentials of an enrolment are not revoked."""
    return int(conn.execute(_COUNT, {"enrolment_id": enrolment_id}).scalar_one())


def delete_abandoned_credentials(conn: Connection, enrolment_id: bytes, before: float) -> None:
    """Remove provisional credentials made before that time which have no answered, unconfirmed login."""
    conn.execute(_DELETE_ABANDONED, {"row_enrolment_id": enrolment_id, "before": before})


def delete_credential(conn: Connection, credential_id: bytes) -> None:
    """Remove a credential that never was active."""
    _one(conn.execute(_DELETE, {"row_id": credential_id}).rowcount)


def insert_credential(conn: Connection, row: CredentialRow) -> None:
    """Add a credential. sqlalchemy.exc.IntegrityError if the id exists."""
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def set_sign_count(conn: Connection, credential_id: bytes, sign_count: int) -> None:
    """Record the last consumed signature counter."""
    _one(_SET_SIGN_COUNT.run(conn, {"row_id": credential_id, "sign_count": sign_count}))


def set_credential_share(conn: Connection, credential_id: bytes, sealed_share: bytes, status: CredentialStatus) -> None:
    """Replace the sealed share by that of the next epoch, and set the status."""
    values = {"row_id": credential_id, "sealed_share": sealed_share, "status": status}
    _one(_SET_SHARE.run(conn, values))


def revoke_credential(conn: Connection, credential_id: bytes) -> None:
    """Mark revoked and erase the share: the key is dead from the commit on."""
    _one(conn.execute(_REVOKE, {"row_id": credential_id}).rowcount)


def revoke_credentials_of(conn: Connection, enrolment_id: bytes) -> int:
    """Revoke every credential of an enrolment; how many there were."""
    return conn.execute(_REVOKE_ALL, {"row_enrolment_id": enrolment_id}).rowcount


def _one(rowcount: int) -> None:
    if rowcount != 1:
        raise KeyError("no such credential")


_COLUMNS = tuple(item.name for item in fields(CredentialRow))
_ALL = [credentials.c[name] for name in _COLUMNS]
_LOAD = Prepared(select(*_ALL).where(credentials.c.id == bindparam("id")))
_LIST = (
    select(*_ALL)
    .where(credentials.c.enrolment_id == bindparam("enrolment_id"))
    .order_by(credentials.c.created_at, credentials.c.id)
)
_COUNT = (
    select(func.count())
    .select_from(credentials)
    .where(credentials.c.enrolment_id == bindparam("enrolment_id"), credentials.c.status != "revoked")
)
_INSERT = insert(credentials)
_BY_ID = update(credentials).where(credentials.c.id == bindparam("row_id"))
_SET_SIGN_COUNT = Prepared(_BY_ID.values(sign_count=bindparam("sign_count")))
_SET_SHARE = Prepared(_BY_ID.values(sealed_share=bindparam("sealed_share"), status=bindparam("status")))
_HAS_PENDING = exists().where(
    logins.c.enrolment_id == credentials.c.enrolment_id,
    logins.c.credential_id == credentials.c.id,
    # Both conditions as literals, or SQLite does not use the partial index (see logins.py).
    logins.c.state != literal_column("'confirmed'"),
    logins.c.state == literal_column("'pending'"),
)
_DELETE_ABANDONED = delete(credentials).where(
    credentials.c.enrolment_id == bindparam("row_enrolment_id"),
    credentials.c.status == "provisional",
    credentials.c.created_at < bindparam("before"),
    ~_HAS_PENDING,
)
_DELETE = delete(credentials).where(credentials.c.id == bindparam("row_id"))
_REVOKE = _BY_ID.values(status="revoked", sealed_share=None)
_REVOKE_ALL = (
    update(credentials)
    .where(credentials.c.enrolment_id == bindparam("row_enrolment_id"))
    .values(status="revoked", sealed_share=None)
)
