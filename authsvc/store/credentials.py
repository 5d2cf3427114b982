"""Rows of `credentials`: the server's share of one RSA key each.

| status | meaning |
|---|---|
| provisioned | dealt in a ceremony and imported; the device has not shown its half |
| paired | dealt, and the device has shown its half |
| provisional | the device registers with it; its first confirmed signature is still to come |
| active | in use |
| revoked | ended for good, without a share |

A key of a device's own begins as provisional. Rows of a ceremony are never deleted: a ceremony that is imported again
could otherwise bring a revoked key back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Literal

from sqlalchemy import (
    Connection,
    Double,
    Integer,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from .prepared import Prepared
from .tables import credentials, logins

CredentialStatus = Literal["provisioned", "paired", "provisional", "active", "revoked"]
WAITING: Final[tuple[CredentialStatus, ...]] = ("provisioned", "paired")
"""Imported, and not yet taken by a device."""


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
    ceremony_id: bytes | None = None
    """Where a provisioned key was dealt; None for a key of the device's own."""
    not_after: int | None = None
    """Unix seconds, from a ceremony; None if the key does not expire."""

    def has_expired(self, now: float) -> bool:
        """Whether `now` (Unix seconds) lies after the key's last second."""
        return self.not_after is not None and now > self.not_after


def load_credential(conn: Connection, credential_id: bytes) -> CredentialRow | None:
    """The credential, or None."""
    row = _LOAD.first(conn, {"id": credential_id})
    return None if row is None else CredentialRow(*row)


def list_credentials(conn: Connection, enrolment_id: bytes) -> list[CredentialRow]:
    """All credentials of an enrolment, oldest first."""
    return [CredentialRow(*row) for row in conn.execute(_LIST, {"enrolment_id": enrolment_id})]


def list_provisioned(conn: Connection, ceremony_id: bytes | None = None) -> list[CredentialRow]:
    """The keys of one ceremony, or of all, whatever has become of them; oldest first."""
    rows = conn.execute(_LIST_ALL_DEALT if ceremony_id is None else _LIST_DEALT, {"ceremony_id": ceremony_id})
    return [CredentialRow(*row) for row in rows]


def list_of_relying_party(conn: Connection, rp_id: str) -> list[CredentialRow]:
    """The credentials for a relying party that are not revoked, in the order of their ids."""
    return [CredentialRow(*row) for row in conn.execute(_LIST_RP, {"rp_id": rp_id})]


def count_credentials(conn: Connection, enrolment_id: bytes) -> int:
    """How many credentials of an enrolment are registered or about to be: neither revoked nor waiting."""
    return int(conn.execute(_COUNT, {"enrolment_id": enrolment_id}).scalar_one())


def enrolment_with_more_waiting(conn: Connection, limit: int) -> bytes | None:
    """The id of an enrolment for which more keys than that wait, or None."""
    row = conn.execute(_MORE_WAITING, {"limit": limit}).first()
    return None if row is None else bytes(row[0])


def has_waiting_key(conn: Connection, enrolment_id: bytes, rp_id: str, now: float) -> bool:
    """Whether a dealt key that has not expired by `now` (Unix seconds) waits for that enrolment and relying party."""
    return conn.execute(_WAITING_FOR, {"enrolment_id": enrolment_id, "rp_id": rp_id, "now": now}).first() is not None


def delete_abandoned_credentials(conn: Connection, enrolment_id: bytes, before: float) -> None:
    """Remove provisional credentials of the device's own, made before that time, which have no answered, unconfirmed
    login.
    """
    conn.execute(_DELETE_ABANDONED, {"row_enrolment_id": enrolment_id, "before": before})


def delete_credential(conn: Connection, credential_id: bytes) -> None:
    """Remove a credential of the device's own that never was active. KeyError for one of a ceremony."""
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


def set_credential_status(
    conn: Connection, credential_id: bytes, status: CredentialStatus, *, algorithm: int | None = None
) -> None:
    """Set the status of a credential that keeps its share, and its algorithm unless None."""
    values = {"row_id": credential_id, "new_status": status, "new_algorithm": algorithm}
    _one(conn.execute(_SET_STATUS, values).rowcount)


def rebind_credential(conn: Connection, credential_id: bytes, enrolment_id: bytes, sealed_share: bytes) -> None:
    """Give a waiting key to another enrolment, whose device has still to show its half."""
    values = {"row_id": credential_id, "new_enrolment_id": enrolment_id, "sealed_share": sealed_share}
    _one(conn.execute(_REBIND, values).rowcount)


def revoke_credential(conn: Connection, credential_id: bytes) -> None:
    """Mark revoked and erase the share: the key is dead from the commit on."""
    _one(conn.execute(_REVOKE, {"row_id": credential_id}).rowcount)


def revoke_credentials_of(conn: Connection, enrolment_id: bytes) -> int:
    """Revoke every credential of an enrolment; how many there were."""
    return conn.execute(_REVOKE_ALL, {"row_enrolment_id": enrolment_id}).rowcount


def forget_credentials_of(conn: Connection, enrolment_id: bytes) -> int:
    """Remove what an enrolment has made itself, and everything but the terms of what was dealt; how many dealt remain.

    Those are revoked and stay, without a counter, so that importing their ceremony again brings nothing back.
    """
    key = {"row_enrolment_id": enrolment_id}
    conn.execute(_DELETE_OWN, key)
    return conn.execute(_FORGET_DEALT, key).rowcount


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
_LIST_RP = (
    select(*_ALL)
    .where(credentials.c.rp_id == bindparam("rp_id"), credentials.c.status != "revoked")
    .order_by(credentials.c.id)
)
_COUNT = (
    select(func.count())
    .select_from(credentials)
    .where(
        credentials.c.enrolment_id == bindparam("enrolment_id"),
        credentials.c.status.not_in((*WAITING, "revoked")),
    )
)
_LIST_ALL_DEALT = (
    select(*_ALL).where(credentials.c.ceremony_id.is_not(None)).order_by(credentials.c.created_at, credentials.c.id)
)
_LIST_DEALT = _LIST_ALL_DEALT.where(credentials.c.ceremony_id == bindparam("ceremony_id"))
_MORE_WAITING = (
    select(credentials.c.enrolment_id)
    .where(credentials.c.status.in_(WAITING))
    .group_by(credentials.c.enrolment_id)
    .having(func.count() > bindparam("limit"))
    .limit(1)
)
_WAITING_FOR = (
    select(credentials.c.id)
    .where(
        credentials.c.enrolment_id == bindparam("enrolment_id"),
        credentials.c.rp_id == bindparam("rp_id"),
        credentials.c.status.in_(WAITING),
        or_(credentials.c.not_after.is_(None), credentials.c.not_after >= bindparam("now", type_=Double)),
    )
    .limit(1)
)
_INSERT = insert(credentials)
_BY_ID = update(credentials).where(credentials.c.id == bindparam("row_id"))
_SET_SIGN_COUNT = Prepared(_BY_ID.values(sign_count=bindparam("sign_count")))
_SET_SHARE = Prepared(_BY_ID.values(sealed_share=bindparam("sealed_share"), status=bindparam("status")))
_SET_STATUS = _BY_ID.values(
    status=bindparam("new_status"),
    algorithm=func.coalesce(bindparam("new_algorithm", type_=Integer), credentials.c.algorithm),
)
_REBIND = _BY_ID.where(credentials.c.status.in_(WAITING)).values(
    enrolment_id=bindparam("new_enrolment_id"), sealed_share=bindparam("sealed_share"), status="provisioned"
)
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
    credentials.c.ceremony_id.is_(None),
    credentials.c.created_at < bindparam("before"),
    ~_HAS_PENDING,
)
_DELETE = delete(credentials).where(credentials.c.id == bindparam("row_id"), credentials.c.ceremony_id.is_(None))
_REVOKE = _BY_ID.values(status="revoked", sealed_share=None)
_REVOKE_ALL = (
    update(credentials)
    .where(credentials.c.enrolment_id == bindparam("row_enrolment_id"))
    .values(status="revoked", sealed_share=None)
)
_DELETE_OWN = delete(credentials).where(
    credentials.c.enrolment_id == bindparam("row_enrolment_id"), credentials.c.ceremony_id.is_(None)
)
_FORGET_DEALT = _REVOKE_ALL.values(status="revoked", sealed_share=None, sign_count=0)
