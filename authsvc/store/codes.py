"""Rows of `codes`: one-time codes, kept only as hashes, and kept after use for the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from .tables import codes

CodePurpose = Literal["enrol", "recover"]


@dataclass(frozen=True, slots=True)
class TakenCode:
    """What the operator bound to a code when issuing it."""

    label: str
    enrolment_id: bytes | None


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
