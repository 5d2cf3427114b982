"""Rows of `codes`: one-time codes, kept only as hashes, and kept after use for the record."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select, update

from .pages import Page, Position, page_of
from .tables import codes

UNLIMITED = 2**31 - 1
"""For `at_most`, where tries were counted before."""
CodePurpose = Literal["enrol", "recover", "rotate", "rotate_unmatched"]
"""`rotate` asks for a match of the present template, `rotate_unmatched` carries a rotation alone."""


@dataclass(frozen=True, slots=True)
class TakenCode:
    """What the operator bound to a code when issuing it."""

    label: str
    enrolment_id: bytes | None


@dataclass(frozen=True, slots=True)
class CodeRow:
    """One code as stored. Field order is column order. Times are Unix seconds."""

    code_hash: bytes
    purpose: CodePurpose
    enrolment_id: bytes | None
    label: str
    created_at: float
    expires_at: float
    used_at: float | None
    """When it was used, or withdrawn."""


def insert_code(
    conn: Connection,
    *,
    code_hash: bytes,
    purpose: CodePurpose,
    enrolment_id: bytes | None,
    label: str,
    created_at: float,
    expires_at: float,
) -> None:
    """Add a code."""
    conn.execute(
        _INSERT,
        {
            "code_hash": code_hash,
            "purpose": purpose,
            "enrolment_id": enrolment_id,
            "label": label,
            "created_at": created_at,
            "expires_at": expires_at,
            "used_at": None,
        },
    )


def take_code(conn: Connection, code_hash: bytes, purpose: CodePurpose, now: float) -> TakenCode | None:
    """Use up a code: of all callers, one gets it. None if it is unknown, used, expired or for something else.

    It is used once the transaction commits; a caller that then refuses rolls the use back with the rest.
    """
    row = conn.execute(_TAKE, {"row_code_hash": code_hash, "row_purpose": purpose, "now": now}).first()
    return None if row is None else TakenCode(*row)


def find_code(conn: Connection, code_hash: bytes, purpose: CodePurpose, now: float, at_most: int) -> TakenCode | None:
    """What a code would give if it were used now, without using it. None as for `take_code`, or if it has been tried
    `at_most` times.
    """
    values = {"row_code_hash": code_hash, "row_purpose": purpose, "now": now, "at_most": at_most}
    row = conn.execute(_FIND, values).first()
    return None if row is None else TakenCode(*row)


def count_try(conn: Connection, code_hash: bytes, purpose: CodePurpose, now: float, at_most: int) -> TakenCode | None:
    """The same, counting one more try of the code."""
    values = {"row_code_hash": code_hash, "row_purpose": purpose, "now": now, "at_most": at_most}
    row = conn.execute(_TRY, values).first()
    return None if row is None else TakenCode(*row)


def withdraw_codes(conn: Connection, enrolment_id: bytes, now: float) -> int:
    """Use up all codes bound to an enrolment; how many there were."""
    return conn.execute(_WITHDRAW, {"row_enrolment_id": enrolment_id, "now": now}).rowcount


def withdraw_code(conn: Connection, code_hash: bytes, now: float) -> bool:
    """Use up one code; False if it was used before, or is not there."""
    return conn.execute(_WITHDRAW_ONE, {"row_code_hash": code_hash, "now": now}).rowcount == 1


def load_code(conn: Connection, code_hash: bytes) -> CodeRow | None:
    """The code, whatever has become of it, or None."""
    row = conn.execute(_LOAD, {"code_hash": code_hash}).first()
    return None if row is None else CodeRow(*row)


def list_open_codes(
    conn: Connection, purposes: Collection[CodePurpose], now: float, *, limit: int, after: Position | None = None
) -> Page[CodeRow]:
    """At most `limit` codes that can still be used, oldest first."""
    query = select(*_ALL).where(codes.c.used_at.is_(None), codes.c.expires_at > now, codes.c.purpose.in_(purposes))
    if after is not None:
        query = query.where(after.after(codes.c.created_at, codes.c.code_hash))
    found = conn.execute(query.order_by(codes.c.created_at, codes.c.code_hash).limit(limit + 1))
    rows = [CodeRow(*row) for row in found]
    return page_of(rows, limit, lambda row: Position(row.created_at, row.code_hash))


def codes_of(conn: Connection, enrolment_id: bytes, begun_with: bytes) -> list[CodeRow]:
    """All codes that were bound to an enrolment, and the one with the hash `begun_with`; oldest first."""
    return [CodeRow(*row) for row in conn.execute(_OF, {"row_enrolment_id": enrolment_id, "begun_with": begun_with})]


def delete_codes_of(conn: Connection, enrolment_id: bytes, begun_with: bytes) -> int:
    """Remove the same codes; how many there were."""
    return conn.execute(_DELETE_OF, {"row_enrolment_id": enrolment_id, "begun_with": begun_with}).rowcount


_COLUMNS = ("code_hash", "purpose", "enrolment_id", "label", "created_at", "expires_at", "used_at")
_ALL = [codes.c[name] for name in _COLUMNS]
_LOAD = select(*_ALL).where(codes.c.code_hash == bindparam("code_hash"))
_BELONGS = or_(
    codes.c.enrolment_id == bindparam("row_enrolment_id"),
    codes.c.code_hash == bindparam("begun_with"),
)
_OF = select(*_ALL).where(_BELONGS).order_by(codes.c.created_at, codes.c.code_hash)
_DELETE_OF = delete(codes).where(_BELONGS)
_WITHDRAW_ONE = (
    update(codes)
    .where(codes.c.code_hash == bindparam("row_code_hash"), codes.c.used_at.is_(None))
    .values(used_at=bindparam("now"))
)
_INSERT = insert(codes)
_USABLE = and_(
    codes.c.code_hash == bindparam("row_code_hash"),
    codes.c.purpose == bindparam("row_purpose"),
    codes.c.used_at.is_(None),
    codes.c.expires_at > bindparam("now"),
)
_TRIABLE = and_(_USABLE, codes.c.attempts < bindparam("at_most"))
_FIND = select(codes.c.label, codes.c.enrolment_id).where(_TRIABLE)
_TAKE = update(codes).where(_USABLE).values(used_at=bindparam("now")).returning(codes.c.label, codes.c.enrolment_id)
_TRY = (
    update(codes).where(_TRIABLE).values(attempts=codes.c.attempts + 1).returning(codes.c.label, codes.c.enrolment_id)
)
_WITHDRAW = (
    update(codes)
    .where(codes.c.enrolment_id == bindparam("row_enrolment_id"), codes.c.used_at.is_(None))
    .values(used_at=bindparam("now"))
)
