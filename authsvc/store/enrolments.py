"""Rows of `enrolments`: one for each enrolled template, with all that its state machine remembers."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Literal, TypedDict, Unpack

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from mpc.login.history import NO_HASH

from .prepared import Prepared
from .tables import enrolments

EnrolmentStatus = Literal["enrolling", "active", "quarantined", "recovering", "revoked", "erased"]
"""`erased`: what is left of an enrolment whose dealt keys must not come back, without anything about a person."""


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
    """One enrolment as stored. Field order is column order."""

    id: bytes
    status: EnrolmentStatus
    status_reason: str | None
    label: str
    profile_name: str
    code_hash: bytes = field(repr=False)
    """Of the one-time code it was begun with; the same code must finish it."""
    signing_key: bytes
    next_signing_key: bytes | None
    epoch: int
    base_ot_id: bytes | None
    sealed_base_ot: bytes | None = field(repr=False)
    sealed_pending_base_ot: bytes | None = field(repr=False)
    pending_base_ot_id: bytes | None
    sealed_template: bytes | None = field(repr=False)
    last_index: int
    confirmed_index: int | None
    confirmed_token_hash: bytes | None = field(repr=False)
    consecutive_failures: int
    last_attempt_at: float | None
    template_attempts: int
    created_at: float
    updated_at: float
    audit_seq: int = 0
    """The number of its last event, and that event's hash: where its chain ends."""
    audit_hash: bytes = NO_HASH
    rotated_base_ot_id: bytes | None = None
    """The base OT of the last template rotation; a device that lost the answer recognises its own by it."""
    templates: int | None = None
    """How many it has. None from before they were counted: as many as its profile says."""
    change_challenge: bytes | None = None
    """What the login must be over that shows the match for the change of templates announced at this epoch."""
    sealed_change: bytes | None = field(default=None, repr=False)


class EnrolmentChanges(TypedDict, total=False):
    """The columns an update may set."""

    status: EnrolmentStatus
    status_reason: str | None
    signing_key: bytes
    next_signing_key: bytes | None
    epoch: int
    base_ot_id: bytes | None
    sealed_base_ot: bytes | None
    sealed_pending_base_ot: bytes | None
    pending_base_ot_id: bytes | None
    sealed_template: bytes | None
    last_index: int
    confirmed_index: int | None
    confirmed_token_hash: bytes | None
    consecutive_failures: int
    last_attempt_at: float | None
    template_attempts: int
    updated_at: float
    audit_seq: int
    audit_hash: bytes
    rotated_base_ot_id: bytes | None
    templates: int | None
    change_challenge: bytes | None
    sealed_change: bytes | None


def load_enrolment(conn: Connection, enrolment_id: bytes, *, lock: bool = False) -> EnrolmentRow | None:
    """The enrolment, or None. lock: hold its row until the transaction ends (a SQLite write transaction holds
    all anyway).
    """
    row = (_LOAD_LOCKED if lock else _LOAD).first(conn, {"id": enrolment_id})
    return None if row is None else EnrolmentRow(*row)


def list_enrolments(conn: Connection) -> list[EnrolmentRow]:
    """All enrolments, oldest first."""
    return [EnrolmentRow(*row) for row in conn.execute(_LIST)]


def insert_enrolment(conn: Connection, row: EnrolmentRow) -> None:
    """Add an enrolment."""
    conn.execute(_INSERT, {name: getattr(row, name) for name in _COLUMNS})


def delete_enrolment(conn: Connection, enrolment_id: bytes) -> None:
    """Remove the row of an enrolment to which no credential and no login belongs. KeyError if there is none."""
    if conn.execute(_DELETE, {"row_id": enrolment_id}).rowcount != 1:
        raise KeyError("no such enrolment")


def empty_enrolment(conn: Connection, enrolment_id: bytes) -> None:
    """Leave nothing of an enrolment but its id, for the dealt keys whose rows must stay."""
    conn.execute(_EMPTY, {"row_id": enrolment_id})


def delete_unfinished_enrolments(conn: Connection, code_hash: bytes, before: float) -> list[bytes]:
    """Remove unfinished enrolments: those begun with this code, and all begun before that time. Their ids."""
    return [bytes(row[0]) for row in conn.execute(_DELETE_UNFINISHED, {"row_code_hash": code_hash, "before": before})]


def update_enrolment(conn: Connection, enrolment_id: bytes, **changes: Unpack[EnrolmentChanges]) -> None:
    """Set the given columns of one enrolment. KeyError if there is no such row, or a name is not a settable
    column.
    """
    if _update(tuple(changes)).run(conn, {"row_id": enrolment_id, **changes}) != 1:
        raise KeyError("no such enrolment")


_COLUMNS = tuple(item.name for item in fields(EnrolmentRow))
_ALL = [enrolments.c[name] for name in _COLUMNS]
_SELECT = select(*_ALL).where(enrolments.c.id == bindparam("id"))
_LOAD = Prepared(_SELECT)
_LOAD_LOCKED = Prepared(_SELECT.with_for_update())
_LIST = select(*_ALL).order_by(enrolments.c.created_at, enrolments.c.id)
_INSERT = insert(enrolments)
_DELETE = delete(enrolments).where(enrolments.c.id == bindparam("row_id"))
_EMPTY = (
    update(enrolments)
    .where(enrolments.c.id == bindparam("row_id"))
    .values(
        {
            **{column.name: None for column in enrolments.c if column.nullable},
            **dict.fromkeys(("label", "profile_name"), ""),
            **dict.fromkeys(("code_hash", "signing_key"), b""),
            **dict.fromkeys(("epoch", "last_index", "consecutive_failures", "template_attempts"), 0),
            **dict.fromkeys(("created_at", "updated_at"), 0.0),
            "status": "erased",
        }
    )
)
_DELETE_UNFINISHED = (
    delete(enrolments)
    .where(
        enrolments.c.status == "enrolling",
        or_(enrolments.c.created_at < bindparam("before"), enrolments.c.code_hash == bindparam("row_code_hash")),
    )
    .returning(enrolments.c.id)
)
_SETTABLE = frozenset(EnrolmentChanges.__annotations__)


@lru_cache(maxsize=128)
def _update(names: tuple[str, ...]) -> Prepared:
    if not names or not _SETTABLE.issuperset(names):
        raise KeyError("not a settable column of enrolments")
    return Prepared(
        update(enrolments)
        .where(enrolments.c.id == bindparam("row_id"))
        .values({name: bindparam(name) for name in names})
    )
