"""Revision 0004 with data in place, on both databases: what exists is chained, and going back keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from state_machine_databases import BACKENDS, database_url, new_database
from state_machine_harness import KEK, Clock, Server, assert_audited, policy

from authsvc.key_port.raw_key import RawKeyWrapper
from authsvc.services.audit_verification import verify_log
from authsvc.services.checkpoints import write_checkpoint
from authsvc.services.context import ServiceContext
from authsvc.services.kek_adoption import adopt_kek
from authsvc.services.keyring import Keyring
from authsvc.store import migrate
from authsvc.store.engine import Store
from authsvc.store.event_search import EventFilter, search_events
from authsvc.store.events import append_event, events_after
from authsvc.store.server_state import load_state
from mpc.primitives.rng import SystemRng

BEFORE = "0003"
ALICE, BOB, BEGUN = b"a" * 16, b"b" * 16, b"c" * 16
OLD_EVENTS = [
    (10.0, None, "code_issued", '{"label":"Alice Liddell","lifetime_s":60}'),
    (20.0, ALICE, "enrolled", "{}"),
    (30.0, BOB, "enrolled", "{}"),
    (25.0, ALICE, "quarantined", '{"reason":"clone_proved"}'),
    (40.0, None, "shares_imported", '{"new":1}'),
]


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A database as the revision before left it."""
    new_database(tmp_path, request.param)
    opened = Store(database_url(tmp_path))
    adopt_kek(opened, Keyring([RawKeyWrapper(KEK)]))
    migrate.downgrade(opened, BEFORE)
    for owner, status, epoch, last_index in ((ALICE, "quarantined", 7, 12), (BOB, "active", 0, 0)):
        enrol(opened, owner, status, epoch, last_index)
    enrol(opened, BEGUN, "enrolling", 0, 0)
    for at, owner, name, detail in OLD_EVENTS:
        values = {"at": at, "owner": owner, "name": name, "detail": detail}
        run(
            opened, "INSERT INTO events (at, enrolment_id, name, detail) VALUES (:at, :owner, :name, :detail)", **values
        )
    yield opened
    opened.close()


def run(store: Store, statement: str, **values: Any) -> list[tuple[Any, ...]]:
    with store.write() as conn:
        result = conn.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def enrol(store: Store, owner: bytes, status: str, epoch: int, last_index: int) -> None:
    run(
        store,
        "INSERT INTO enrolments (id, status, label, profile_name, code_hash, signing_key, epoch, last_index,"
        " consecutive_failures, template_attempts, created_at, updated_at)"
        " VALUES (:owner, :status, 'somebody', 'sim-512', :hash, :key, :epoch, :last_index, 0, 0, 1.0, 1.0)",
        owner=owner,
        status=status,
        hash=bytes(32),
        key=bytes(65),
        epoch=epoch,
        last_index=last_index,
    )


def told(store: Store, owner: bytes) -> list[tuple[int, float, str, dict[str, Any]]]:
    with store.read() as conn:
        rows = events_after(conn, owner, 0, limit=100)
    return [(row.seq, row.at, row.name, json.loads(row.detail)) for row in rows]


def test_existing_events_are_chained_in_their_order_and_histories_begin(store: Store, tmp_path: Path) -> None:
    """A log whose older half cannot be verified is worth little; and a device must learn what its history lacks."""
    migrate.upgrade(store)

    assert told(store, ALICE)[:2] == [(1, 20.0, "enrolled", {}), (2, 25.0, "quarantined", {"reason": "clone_proved"})]
    assert [(seq, name, detail) for seq, _, name, detail in told(store, ALICE)[2:]] == [
        (3, "history_begun", {"epoch": 7, "last_index": 12})
    ]
    assert [name for _, _, name, _ in told(store, BOB)] == ["enrolled", "history_begun"]
    assert told(store, BEGUN) == []
    server = Server(tmp_path, Clock())
    assert_audited(server)
    assert write_checkpoint(server.ctx) is not None
    with store.write() as conn:
        append_event(conn, at=50.0, name="code_issued")
        append_event(conn, at=50.0, name="recovered", enrolment_id=ALICE)
        append_event(conn, at=50.0, name="enrolled", enrolment_id=BEGUN)
    report = verify_log(server.ctx)
    assert (report.found, report.events, report.chains, report.covered) == (0, 10, 4, 7)
    server.close()


def test_no_label_is_chained(store: Store) -> None:
    """It names a person, and nothing can be taken out of a chain."""
    migrate.upgrade(store)

    with store.read() as conn:
        everything = [row.detail for row in search_events(conn, EventFilter(), limit=100)]
    assert not any("Liddell" in detail for detail in everything)
    assert '{"lifetime_s":60}' in everything


def test_going_back_keeps_the_events_and_coming_up_again_chains_them_alike(store: Store, tmp_path: Path) -> None:
    """Whoever has to go back loses neither events nor, in the devices' eyes, the history."""
    migrate.upgrade(store)
    server = Server(tmp_path, Clock())
    write_checkpoint(server.ctx)
    with store.read() as conn:
        before = events_after(conn, ALICE, 0, limit=100)

    migrate.downgrade(store, BEFORE)

    rows = run(store, "SELECT at, enrolment_id, name FROM events ORDER BY id")
    assert rows[: len(OLD_EVENTS)] == [(at, owner, name) for at, owner, name, _ in OLD_EVENTS]
    with store.read() as conn:
        assert load_state(conn, "audit_key") is None and load_state(conn, "audit_chain") is None
    migrate.upgrade(store)
    with store.read() as conn:
        after = events_after(conn, ALICE, 0, limit=100)
    assert after[: len(before)] == before
    assert [row.name for row in after[len(before) :]] == ["history_begun"]
    server.close()


def test_going_back_and_up_again_adds_nothing_to_the_chain_of_an_erased_enrolment(store: Store) -> None:
    """Its row may be left for its dealt keys, and looks revoked to the older code; an erasure ends a chain for good."""
    migrate.upgrade(store)
    with store.write() as conn:
        append_event(conn, at=60.0, name="enrolment_erased", enrolment_id=ALICE)
    run(store, "UPDATE enrolments SET status = 'erased' WHERE id = :owner", owner=ALICE)
    run(store, "UPDATE enrolments SET status = 'revoked' WHERE id = :owner", owner=BOB)
    before = told(store, ALICE)

    migrate.downgrade(store, BEFORE)
    migrate.upgrade(store)

    assert told(store, ALICE) == before
    assert run(store, "SELECT id, status FROM enrolments WHERE id <> :begun ORDER BY id", begun=BEGUN) == [
        (ALICE, "erased"),
        (BOB, "revoked"),
    ]
    ctx = ServiceContext(store, Keyring([RawKeyWrapper(KEK)]), policy(), SystemRng(), Clock())
    assert verify_log(ctx).ok
