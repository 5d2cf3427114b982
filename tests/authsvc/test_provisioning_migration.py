"""Revision 0002 with data in place: up, and back down without bringing any key to life."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authsvc.store import migrate
from authsvc.store.credentials import CredentialRow, list_credentials
from authsvc.store.engine import Store
from authsvc.store.sqlite import sqlite_url

ALICE = b"a" * 16
CEREMONY = b"y" * 16
OLD_COLUMNS = ["id", "enrolment_id", "rp_id", "algorithm", "modulus", "exponent", "sealed_share", "status"]
OLD_COLUMNS += ["sign_count", "created_at"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authsvc.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(sqlite_url(path))
    yield store
    store.close()


def run(store: Store, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with store.write() as conn:
        result = conn.exec_driver_sql(statement, values)
        return [tuple(row) for row in result] if result.returns_rows else []


def enrol(store: Store) -> None:
    run(
        store,
        "INSERT INTO enrolments (id, status, label, profile_name, code_hash, signing_key, epoch, last_index,"
        " consecutive_failures, template_attempts, created_at, updated_at)"
        " VALUES (?, 'active', 'Alice', 'sim-512', ?, ?, 0, 7, 0, 0, 1.0, 1.0)",
        ALICE,
        bytes(32),
        bytes(65),
    )


def add(store: Store, name: str, status: str, **more: Any) -> bytes:
    """A credential in the columns of 0001, and more."""
    key_id = name.encode().ljust(32, b".")
    share = None if status == "revoked" else f"sealed share of {name}".encode()
    old = (key_id, ALICE, "shop.example", -257, b"n", 65537, share, status, 3, 1.5)
    values = {**dict(zip(OLD_COLUMNS, old, strict=True)), **more}
    marks = ", ".join("?" * len(values))
    run(store, f"INSERT INTO credentials ({', '.join(values)}) VALUES ({marks})", *values.values())
    return key_id


def statuses(store: Store) -> dict[str, tuple[str, bool]]:
    """(status, whether there is a share) by name."""
    rows = run(store, "SELECT id, status, sealed_share FROM credentials")
    return {bytes(row[0]).rstrip(b".").decode(): (row[1], row[2] is not None) for row in rows}


def test_upgrading_keeps_what_was_there_and_it_belongs_to_no_ceremony(store: Store) -> None:
    migrate.upgrade(store, "0001")
    enrol(store)
    add(store, "own", "active")
    add(store, "gone", "revoked")

    migrate.upgrade(store)

    with store.read() as conn:
        rows = list_credentials(conn, ALICE)
        assert migrate.current_revision(conn) == migrate.head_revision()
    own = CredentialRow(
        b"own".ljust(32, b"."), ALICE, "shop.example", -257, b"n", 65537, b"sealed share of own", "active", 3, 1.5
    )
    assert own in rows and own.ceremony_id is None and own.not_after is None
    assert run(store, "SELECT last_index FROM enrolments") == [(7,)]


def test_downgrading_keeps_of_the_dealt_keys_only_what_the_older_code_treats_rightly(store: Store) -> None:
    """It knows no expiry and no exponent but 65537, and deletes provisional rows that were left lying."""
    migrate.upgrade(store)
    enrol(store)
    later = int(time.time()) + 3600
    for name, status, more in (
        ("own", "active", {}),
        ("own begun", "provisional", {}),
        ("provisioned", "provisioned", {"ceremony_id": CEREMONY}),
        ("paired", "paired", {"ceremony_id": CEREMONY, "not_after": later}),
        ("provisional", "provisional", {"ceremony_id": CEREMONY}),
        ("active", "active", {"ceremony_id": CEREMONY}),
        ("ends", "active", {"ceremony_id": CEREMONY, "not_after": later}),
        ("odd", "active", {"ceremony_id": CEREMONY, "exponent": 3}),
        ("revoked", "revoked", {"ceremony_id": CEREMONY}),
    ):
        add(store, name, status, **more)
    run(store, "INSERT INTO recipients VALUES (?, 'x25519', 'x', ?, ?, 1.0, NULL)", bytes(32), b"doc", b"sealed key")
    run(store, "INSERT INTO ceremonies VALUES (?, 0, ?, ?, 1.0, NULL)", CEREMONY, bytes(32), bytes(32))

    migrate.downgrade(store, "0001")

    assert statuses(store) == {
        "own": ("active", True),
        "own begun": ("provisional", True),
        "provisional": ("revoked", False),
        "active": ("active", True),
        "ends": ("revoked", False),
        "odd": ("revoked", False),
        "revoked": ("revoked", False),
    }
    tables = {row[0] for row in run(store, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & {"recipients", "ceremonies"}
    columns = [row[1] for row in run(store, "PRAGMA table_info(credentials)")]
    assert columns == OLD_COLUMNS
    query = "SELECT name FROM sqlite_master WHERE tbl_name = 'credentials' AND sql > ''"
    assert {row[0] for row in run(store, query)} == {"credentials", "ix_credentials_enrolment_id"}


def test_the_shares_that_go_are_overwritten(store: Store, path: Path) -> None:
    migrate.upgrade(store)
    enrol(store)
    add(store, "waits", "paired", ceremony_id=CEREMONY)
    run(store, "INSERT INTO recipients VALUES (?, 'x25519', 'x', ?, ?, 1.0, NULL)", bytes(32), b"doc", b"sealed key")

    migrate.downgrade(store, "0001")

    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    left = path.read_bytes()
    assert b"sealed share of waits" not in left and b"sealed key" not in left


def test_down_and_up_again_gives_the_schema_of_a_fresh_database(store: Store, tmp_path: Path) -> None:
    migrate.upgrade(store)
    migrate.downgrade(store, "0001")
    migrate.upgrade(store)
    fresh = Store(sqlite_url(tmp_path / "fresh.db"))
    migrate.upgrade(fresh)

    def definitions(of: Store) -> set[tuple[Any, ...]]:
        return {(row[0], "".join(str(row[1]).split())) for row in run(of, "SELECT name, sql FROM sqlite_master")}

    assert definitions(store) == definitions(fresh)
    fresh.close()
