"""Rows of `logins`: one for each counted attempt, kept for budgets and audit.

| state | meaning | token hash and ρ |
|---|---|---|
| pending | answered, not confirmed | both |
| void | was pending when another login was confirmed | token hash, until the next confirmation |
| confirmed | the device proved that it opened the answer | neither (the enrolment keeps the token hash) |
| failed | refused, or nothing came of it | neither; token hash if it was for a dropped change of templates |
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    not_,
    null,
    or_,
    select,
    update,
)

from .prepared import Prepared
from .tables import logins

LoginState = Literal["failed", "pending", "void", "confirmed"]
LoginKind = Literal["create", "get", "change", "rotate", "verify"]
"""`change`, `rotate`: a login that shows the match for the change of templates, or the rotation, under way; `verify`:
one that shows a match for its own sake. All three sign for no relying party."""


@dataclass(frozen=True, slots=True)
class LoginRow:
    """One counted attempt as stored. Field order is column order."""

    enrolment_id: bytes
    ot_index: int
    credential_id: bytes
    at: float
    cost: int
    state: LoginState
    kind: LoginKind
    token_hash: bytes | None = field(repr=False)
    sealed_rho: bytes | None = field(repr=False)
    request_hash: bytes
    confirmed_at: float | None = None


def insert_login(conn: Connection, row: LoginRow) -> None:
    """Record a counted attempt. sqlalchemy.exc.IntegrityError if the index was consumed before."""
    _INSERT.run(conn, {name: getattr(row, name) for name in _COLUMNS})


def load_login(conn: Connection, enrolment_id: bytes, ot_index: int) -> LoginRow | None:
    """The attempt at an index, or None."""
    row = conn.execute(_LOAD, {"enrolment_id": enrolment_id, "ot_index": ot_index}).first()
    return None if row is None else LoginRow(*row)


def pending_logins(conn: Connection, enrolment_id: bytes) -> list[LoginRow]:
    """The answered logins of the current epoch that nobody has confirmed."""
    return [LoginRow(*row) for row in _PENDING.all(conn, {"enrolment_id": enrolment_id})]


def void_token_hashes(conn: Connection, enrolment_id: bytes) -> list[bytes]:
    """Token hashes of the logins that lost against the last confirmed one: seeing such a token proves a
    clone.
    """
    return [row[0] for row in _VOID_HASHES.all(conn, {"enrolment_id": enrolment_id})]


def confirm_login(conn: Connection, enrolment_id: bytes, ot_index: int, confirmed_at: float) -> None:
    """Move one pending login to confirmed, every other pending or dropped one to void, and forget what was void before.

    KeyError if that login is not pending.
    """
    at = {"row_enrolment_id": enrolment_id, "row_ot_index": ot_index, "confirmed_at": confirmed_at}
    # In one statement every row is judged by what it was before.
    if (ot_index, "confirmed") not in _CONFIRM.all(conn, at):
        raise KeyError("no such pending login")


def drop_pending_logins(conn: Connection, enrolment_id: bytes) -> int:
    """Turn the pending logins into failed ones and erase their ρ and token hashes; how many there were."""
    return conn.execute(_DROP_PENDING, {"row_enrolment_id": enrolment_id}).rowcount


def drop_pending_logins_with(conn: Connection, enrolment_id: bytes, credential_id: bytes) -> None:
    """The same for those with one credential."""
    conn.execute(_DROP_PENDING_WITH, {"row_enrolment_id": enrolment_id, "row_credential_id": credential_id})


def void_pending_logins(conn: Connection, enrolment_id: bytes) -> int:
    """Turn the pending logins into void ones: their tokens confirm nothing and prove a clone; how many there were."""
    return _VOID_PENDING.run(conn, {"row_enrolment_id": enrolment_id})


def forget_rotation_logins(conn: Connection, enrolment_id: bytes) -> None:
    """The logins of earlier rotations are ordinary ones from now on and show no match for a later one."""
    conn.execute(_FORGET_ROTATION, {"row_enrolment_id": enrolment_id})


def drop_pending_changes(conn: Connection, enrolment_id: bytes) -> None:
    """Turn the pending logins for a change of templates into failed ones: to their devices they were never heard of.

    Token hashes stay. A device that has such a token asks before it does anything else, and `forget_dropped` erases the
    hash with the answer; what nobody asked about when another login is confirmed becomes void with the rest.
    """
    conn.execute(_DROP_PENDING_CHANGES, {"row_enrolment_id": enrolment_id})


def forget_dropped(conn: Connection, enrolment_id: bytes, token_hash: bytes) -> bool:
    """Erase the hash if it is that of a dropped change: its device is told, and takes the login back. Whether it was.

    Looked for by value: the hash of a random token tells whoever measures nothing that he could use.
    """
    at = {"row_enrolment_id": enrolment_id, "row_token_hash": token_hash}
    return conn.execute(_FORGET_DROPPED, at).rowcount > 0


def list_logins(conn: Connection, enrolment_id: bytes) -> list[LoginRow]:
    """Every counted attempt of an enrolment, by index."""
    return [LoginRow(*row) for row in conn.execute(_LIST, {"enrolment_id": enrolment_id})]


def delete_logins_of(conn: Connection, enrolment_id: bytes) -> int:
    """Remove every attempt of an enrolment; how many there were."""
    return conn.execute(_DELETE_ALL, {"row_enrolment_id": enrolment_id}).rowcount


def nth_latest_attempt_time(conn: Connection, enrolment_id: bytes, n: int) -> float | None:
    """When the n-th latest counted attempt happened (n ≥ 1), or None if there were fewer."""
    row = _NTH_LATEST.first(conn, {"enrolment_id": enrolment_id, "skip": n - 1})
    return None if row is None else float(row[0])


def unconfirmed_count_since(conn: Connection, enrolment_id: bytes, since: float) -> int:
    """The summed cost of the attempts since then that were not confirmed (pending ones included)."""
    row = _UNCONFIRMED.first(conn, {"enrolment_id": enrolment_id, "since": since})
    return 0 if row is None else int(row[0])


_COLUMNS = tuple(item.name for item in fields(LoginRow))
_ALL = [logins.c[name] for name in _COLUMNS]
_MINE = logins.c.enrolment_id == bindparam("enrolment_id")
# Literals, not parameters, and the index's own condition beside each: SQLite uses a partial index only where
# it finds that condition word for word.
_OPEN = logins.c.state != literal_column("'confirmed'")
_IS_PENDING = and_(_OPEN, logins.c.state == literal_column("'pending'"))
_IS_VOID = and_(_OPEN, logins.c.state == literal_column("'void'"))
_IS_UNCONFIRMED = and_(
    _OPEN, logins.c.state.in_([literal_column(f"'{name}'") for name in ("failed", "pending", "void")])
)

_INSERT = Prepared(insert(logins))
_LOAD = select(*_ALL).where(_MINE, logins.c.ot_index == bindparam("ot_index"))
# The inner query needs nothing but the index. Asked for the row at once, SQLite would walk the enrolment's
# whole history by the primary key, which it takes to be as selective.
_PENDING_INDEXES = select(logins.c.ot_index).where(_MINE, _IS_PENDING).scalar_subquery()
_VOID_INDEXES = select(logins.c.ot_index).where(_MINE, _IS_VOID).scalar_subquery()
_PENDING = Prepared(select(*_ALL).where(_MINE, logins.c.ot_index.in_(_PENDING_INDEXES)).order_by(logins.c.ot_index))
_VOID_HASHES = Prepared(select(logins.c.token_hash).where(_MINE, logins.c.ot_index.in_(_VOID_INDEXES)))
_NTH_LATEST = Prepared(
    select(logins.c.at).where(_MINE).order_by(logins.c.ot_index.desc()).limit(1).offset(bindparam("skip"))
)
_UNCONFIRMED = Prepared(
    select(func.coalesce(func.sum(logins.c.cost), 0)).where(_MINE, _IS_UNCONFIRMED, logins.c.at >= bindparam("since"))
)

_UPDATE_MINE = update(logins).where(logins.c.enrolment_id == bindparam("row_enrolment_id"))
_IS_THIS = logins.c.ot_index == bindparam("row_ot_index")
_IS_DROPPED = and_(logins.c.state == literal_column("'failed'"), logins.c.token_hash.is_not(None))
_CONFIRM = Prepared(
    _UPDATE_MINE.where(
        _OPEN,
        logins.c.state.in_([literal_column(f"'{name}'") for name in ("failed", "pending", "void")]),
        logins.c.token_hash.is_not(None),
    )
    .values(
        state=case(
            (and_(_IS_PENDING, _IS_THIS), literal_column("'confirmed'")),
            (or_(_IS_PENDING, _IS_DROPPED), literal_column("'void'")),
            else_=literal_column("'failed'"),
        ),
        token_hash=case(
            (or_(and_(_IS_PENDING, not_(_IS_THIS)), _IS_DROPPED), logins.c.token_hash),
            else_=null(),
        ),
        sealed_rho=None,
        confirmed_at=case((and_(_IS_PENDING, _IS_THIS), bindparam("confirmed_at")), else_=logins.c.confirmed_at),
    )
    .returning(logins.c.ot_index, logins.c.state)
)
_VOID_PENDING = Prepared(_UPDATE_MINE.where(_IS_PENDING).values(state="void", sealed_rho=None))
_DROP_PENDING = _UPDATE_MINE.where(_IS_PENDING).values(state="failed", token_hash=None, sealed_rho=None)
_DROP_PENDING_WITH = _DROP_PENDING.where(logins.c.credential_id == bindparam("row_credential_id"))
_DROP_PENDING_CHANGES = _UPDATE_MINE.where(_IS_PENDING, logins.c.kind == "change").values(
    state="failed", sealed_rho=None
)
_FORGET_DROPPED = _UPDATE_MINE.where(_OPEN, _IS_DROPPED, logins.c.token_hash == bindparam("row_token_hash")).values(
    token_hash=None
)
_FORGET_ROTATION = _UPDATE_MINE.where(logins.c.kind == "rotate").values(kind="get")
_LIST = select(*_ALL).where(_MINE).order_by(logins.c.ot_index)
_DELETE_ALL = delete(logins).where(logins.c.enrolment_id == bindparam("row_enrolment_id"))
