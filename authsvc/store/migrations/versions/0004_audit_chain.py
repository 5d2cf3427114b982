"""The audit chain: events are numbered and chained by hashes, and checkpoints are signed over them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from mpc.login.history import NO_HASH, event_hash

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BATCH = 1000

_events = sa.table(
    "events",
    sa.column("id", sa.BigInteger),
    sa.column("at", sa.Double),
    sa.column("enrolment_id", sa.LargeBinary),
    sa.column("name", sa.Text),
    sa.column("detail", sa.Text),
    sa.column("seq", sa.BigInteger),
    sa.column("hash", sa.LargeBinary),
)
_enrolments = sa.table(
    "enrolments",
    sa.column("id", sa.LargeBinary),
    sa.column("status", sa.Text),
    sa.column("epoch", sa.Integer),
    sa.column("last_index", sa.BigInteger),
    sa.column("audit_seq", sa.BigInteger),
    sa.column("audit_hash", sa.LargeBinary),
)
_server_state = sa.table("server_state", sa.column("name", sa.Text), sa.column("value", sa.LargeBinary))


def upgrade() -> None:
    """Chain the events that exist, in the order of their ids, and begin the history of every enrolment but erased ones.

    Logins made before have left no events; `history_begun` says so, with the epoch from which on they do.
    """
    conn = op.get_bind()
    zeros = {"sqlite": f"x'{NO_HASH.hex()}'", "postgresql": f"'\\x{NO_HASH.hex()}'::bytea"}[conn.dialect.name]
    op.add_column("enrolments", sa.Column("audit_seq", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column(
        "enrolments", sa.Column("audit_hash", sa.LargeBinary(32), nullable=False, server_default=sa.text(zeros))
    )
    op.add_column("events", sa.Column("seq", sa.BigInteger))
    op.add_column("events", sa.Column("hash", sa.LargeBinary(32)))
    _forget_labels(conn)
    _chain(conn)
    _begin_histories(conn)
    op.drop_index("ix_events_enrolment_id", "events")
    with op.batch_alter_table("events") as batch:
        batch.alter_column("seq", existing_type=sa.BigInteger, nullable=False)
        batch.alter_column("hash", existing_type=sa.LargeBinary(32), nullable=False)
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_chain", "events", ["enrolment_id", "seq"], unique=True)
    op.create_index(
        "ix_events_server_chain",
        "events",
        ["seq"],
        unique=True,
        sqlite_where=sa.text("enrolment_id IS NULL"),
        postgresql_where=sa.text("enrolment_id IS NULL"),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("last_event_id", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_checkpoints"),
    )


def downgrade() -> None:
    """Keep the events; chain, checkpoints and the key that signed them go."""
    op.drop_table("audit_checkpoints")
    op.execute("DELETE FROM server_state WHERE name IN ('audit_chain', 'audit_key', 'audit_head', 'audit_begun')")
    for name in ("ix_events_server_chain", "ix_events_chain", "ix_events_at"):
        op.drop_index(name, "events")
    for column in ("hash", "seq"):
        op.drop_column("events", column)
    op.create_index("ix_events_enrolment_id", "events", ["enrolment_id"])
    for column in ("audit_hash", "audit_seq"):
        op.drop_column("enrolments", column)


def _forget_labels(conn: sa.Connection) -> None:
    """`code_issued` had the label, which names a person; once it is chained it could never be taken out."""
    for _id, detail in _pages(conn, sa.select(_events.c.id, _events.c.detail).where(_events.c.name == "code_issued")):
        values = json.loads(detail)
        if values.pop("label", None) is not None:
            text = json.dumps(values, sort_keys=True, separators=(",", ":"))
            conn.execute(sa.update(_events).where(_events.c.id == _id).values(detail=text))


def _chain(conn: sa.Connection) -> None:
    query = sa.select(_events.c.id, _events.c.at, _events.c.enrolment_id, _events.c.name, _events.c.detail)
    # Enrolment after enrolment, so that one head at a time is in memory.
    owners = sa.select(_events.c.enrolment_id).where(_events.c.enrolment_id.is_not(None)).distinct()
    server_head = _chain_one(conn, b"", _pages(conn, query.where(_events.c.enrolment_id.is_(None))))
    if server_head[0]:
        value = server_head[0].to_bytes(8, "big") + server_head[1]
        conn.execute(sa.insert(_server_state).values(name="audit_chain", value=value))
    for (owner,) in _pages(conn, owners):
        seq, digest = _chain_one(conn, owner, _pages(conn, query.where(_events.c.enrolment_id == owner)))
        if seq:
            _set_head(conn, owner, seq, digest)


def _chain_one(conn: sa.Connection, owner: bytes, rows: Iterator[Any]) -> tuple[int, bytes]:
    seq, digest = 0, NO_HASH
    changes: list[dict[str, Any]] = []
    statement = (
        sa.update(_events)
        .where(_events.c.id == sa.bindparam("row_id"))
        .values(seq=sa.bindparam("new_seq"), hash=sa.bindparam("new_hash"))
    )
    for _id, at, _, name, detail in rows:
        seq += 1
        digest = event_hash(digest, seq, at, owner, name, detail)
        changes.append({"row_id": _id, "new_seq": seq, "new_hash": digest})
        if len(changes) == _BATCH:
            conn.execute(statement, changes)
            changes = []
    if changes:
        conn.execute(statement, changes)
    return seq, digest


def _begin_histories(conn: sa.Connection) -> None:
    at = time.time()
    # An erasure ends a chain; the row of an erased enrolment may be left, and comes from a later revision as a revoked
    # one.
    erased = sa.select(_events.c.enrolment_id).where(
        _events.c.name == "enrolment_erased", _events.c.enrolment_id == _enrolments.c.id
    )
    query = sa.select(*_enrolments.c).where(
        _enrolments.c.status != "enrolling", ~sa.exists(erased.correlate(_enrolments))
    )
    for owner, _, epoch, last_index, seq, previous in _pages(conn, query):
        detail = json.dumps({"epoch": epoch, "last_index": last_index}, sort_keys=True, separators=(",", ":"))
        digest = event_hash(previous, seq + 1, at, owner, "history_begun", detail)
        values = {"at": at, "enrolment_id": owner, "name": "history_begun", "detail": detail}
        conn.execute(sa.insert(_events).values(**values, seq=seq + 1, hash=digest))
        _set_head(conn, owner, seq + 1, digest)


def _set_head(conn: sa.Connection, owner: bytes, seq: int, digest: bytes) -> None:
    conn.execute(sa.update(_enrolments).where(_enrolments.c.id == owner).values(audit_seq=seq, audit_hash=digest))


def _pages(conn: sa.Connection, query: sa.Select[Any]) -> Iterator[Any]:
    """The rows by the first column, which is the table's key, without holding all of them or a cursor open."""
    key = query.selected_columns[0]
    last: Any = None
    while True:
        page = conn.execute((query if last is None else query.where(key > last)).order_by(key).limit(_BATCH)).all()
        yield from page
        if len(page) < _BATCH:
            return
        last = page[-1][0]
