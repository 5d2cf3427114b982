"""The store on real SQLite files: transactions, migrations, and each query's promise."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import IntegrityError

from authsvc.store import credentials, enrolments, events, logins, migrate
from authsvc.store.codes import insert_code, take_code, withdraw_codes
from authsvc.store.engine import Store, StoreUnavailable
from authsvc.store.sqlite import sqlite_url
from authsvc.store.tables import metadata

ALICE, BOB = b"a" * 16, b"b" * 16
CREDENTIAL = b"c" * 32


def enrolment_row(enrolment_id: bytes = ALICE) -> enrolments.EnrolmentRow:
    return enrolments.EnrolmentRow(
        id=enrolment_id,
        status="active",
        status_reason=None,
        label="Alice",
        profile_name="sim-2048",
        code_hash=bytes(32),
        signing_key=b"\x04" + bytes(64),
        next_signing_key=None,
        epoch=0,
        base_ot_id=b"o" * 16,
        sealed_base_ot=b"sealed base ot",
        sealed_pending_base_ot=None,
        pending_base_ot_id=None,
        sealed_template=b"sealed template",
        last_index=0,
        confirmed_index=None,
        confirmed_token_hash=None,
        consecutive_failures=0,
        last_attempt_at=None,
        template_attempts=0,
        created_at=1_000.5,
        updated_at=1_000.5,
    )


def credential_row(credential_id: bytes = CREDENTIAL, enrolment_id: bytes = ALICE) -> credentials.CredentialRow:
    return credentials.CredentialRow(
        credential_id, enrolment_id, "localhost", -257, b"\xff" * 256, 65537, b"sealed share", "active", 0, 1_000.5
    )


def login_row(ot_index: int, **changes: object) -> logins.LoginRow:
    row = logins.LoginRow(
        enrolment_id=ALICE,
        ot_index=ot_index,
        credential_id=CREDENTIAL,
        at=float(ot_index),
        cost=1,
        state="pending",
        kind="get",
        token_hash=bytes([ot_index % 256]) * 32,
        sealed_rho=b"sealed rho",
        request_hash=b"r" * 32,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authsvc.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store(sqlite_url(path))
    migrate.upgrade(store)
    yield store
    store.close()


@pytest.fixture
def alices(store: Store) -> Store:
    with store.write() as conn:
        enrolments.insert_enrolment(conn, enrolment_row())
        credentials.insert_credential(conn, credential_row())
    return store


class TestTransactions:
    def test_what_was_written_is_there_after_reopening(self, alices: Store, path: Path) -> None:
        alices.close()
        reopened = Store(sqlite_url(path))

        with reopened.read() as conn:
            assert enrolments.load_enrolment(conn, ALICE) == enrolment_row()
            assert credentials.load_credential(conn, CREDENTIAL) == credential_row()
        reopened.close()

    def test_a_block_that_raises_leaves_nothing(self, alices: Store) -> None:
        with pytest.raises(RuntimeError), alices.write() as conn:
            enrolments.update_enrolment(conn, ALICE, last_index=7)
            logins.insert_login(conn, login_row(7))
            raise RuntimeError

        with alices.read() as conn:
            assert enrolments.load_enrolment(conn, ALICE) == enrolment_row()
            assert logins.pending_logins(conn, ALICE) == []
        with alices.write() as conn:
            enrolments.update_enrolment(conn, ALICE, last_index=8)

    def test_a_reader_sees_one_state_throughout(self, alices: Store) -> None:
        with alices.read() as reading:
            before = enrolments.load_enrolment(reading, ALICE)
            with alices.write() as writing:
                enrolments.update_enrolment(writing, ALICE, epoch=1)
                credentials.set_credential_share(writing, CREDENTIAL, b"next", "active")
            after = enrolments.load_enrolment(reading, ALICE)
            credential = credentials.load_credential(reading, CREDENTIAL)

        assert before == after == enrolment_row()
        assert credential == credential_row()

    def test_read_then_write_loses_no_update_between_threads(self, alices: Store) -> None:
        """An index is consumed by reading it and writing a larger one; two workers must never read the same."""

        def consume(_: int) -> int:
            with alices.write() as conn:
                row = enrolments.load_enrolment(conn, ALICE, lock=True)
                assert row is not None
                enrolments.update_enrolment(conn, ALICE, last_index=row.last_index + 1)
                return row.last_index

        with ThreadPoolExecutor(16) as pool:
            seen = list(pool.map(consume, range(200)))

        assert sorted(seen) == list(range(200))

    def test_read_then_write_loses_no_update_between_processes(self, alices: Store, path: Path) -> None:
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "from authsvc.store import enrolments\n"
            "from authsvc.store.engine import Store\n"
            "from authsvc.store.sqlite import sqlite_url\n"
            "store = Store(sqlite_url(Path(sys.argv[1])))\n"
            "for _ in range(50):\n"
            "    with store.write() as conn:\n"
            "        row = enrolments.load_enrolment(conn, b'a' * 16)\n"
            "        enrolments.update_enrolment(conn, b'a' * 16, last_index=row.last_index + 1)\n"
        )
        workers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(3)]

        assert [worker.wait(120) for worker in workers] == [0, 0, 0]
        with alices.read() as conn:
            row = enrolments.load_enrolment(conn, ALICE)
        assert row is not None
        assert row.last_index == 150

    def test_a_process_killed_inside_a_transaction_leaves_nothing(self, alices: Store, path: Path) -> None:
        program = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from authsvc.store import enrolments\n"
            "from authsvc.store.engine import Store\n"
            "from authsvc.store.sqlite import sqlite_url\n"
            "with Store(sqlite_url(Path(sys.argv[1]))).write() as conn:\n"
            "    enrolments.update_enrolment(conn, b'a' * 16, last_index=99)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )

        assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
        with alices.write() as conn:
            assert enrolments.load_enrolment(conn, ALICE) == enrolment_row()

    def test_commits_are_forced_to_disk(self, store: Store) -> None:
        with store.read() as conn:
            settings = {
                name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            }

        assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

    def test_a_database_that_is_none_is_unavailable(self, path: Path) -> None:
        path.write_bytes(os.urandom(8192))
        store = Store(sqlite_url(path))

        with pytest.raises(StoreUnavailable), store.read() as conn:
            enrolments.load_enrolment(conn, ALICE)
        store.close()

    def test_a_directory_that_does_not_exist_is_unavailable(self, tmp_path: Path) -> None:
        store = Store(sqlite_url(tmp_path / "nowhere" / "authsvc.db"))

        with pytest.raises(StoreUnavailable), store.write():
            pass

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x"])
    def test_a_database_that_would_lose_its_rows_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="database"):
            Store(url)

    def test_a_prepared_statement_raises_sqlalchemys_error_without_its_values(self, alices: Store) -> None:
        secret = login_row(5, token_hash=b"very secret token hash".ljust(32), sealed_rho=b"very secret refresh")
        with pytest.raises(IntegrityError) as raised, alices.write() as conn:
            logins.insert_login(conn, secret)
            logins.insert_login(conn, secret)

        error = raised.value
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.params) + repr(error.orig)
        assert "UNIQUE constraint failed" in shown
        assert "very secret" not in shown and b"very secret".hex() not in shown
        with alices.read() as conn:
            assert logins.load_login(conn, ALICE, 5) is None

    def test_an_error_text_holds_no_parameters(self, alices: Store) -> None:
        with pytest.raises(IntegrityError) as raised, alices.write() as conn:
            credentials.insert_credential(conn, replace(credential_row(), sealed_share=b"very secret share"))

        assert "very secret share" not in str(raised.value)


class TestConnections:
    def in_another_thread(self, store: Store) -> Connection:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self.used, store).result()

    @staticmethod
    def used(store: Store) -> Connection:
        with store.read() as conn:
            return conn

    def test_a_thread_keeps_its_connection_from_one_transaction_to_the_next(self, alices: Store) -> None:
        mine = self.used(alices)
        with alices.write() as conn:
            assert conn is mine
        assert self.used(alices) is mine
        assert not mine.closed

    def test_threads_have_connections_of_their_own(self, alices: Store) -> None:
        mine = self.used(alices)
        together = threading.Barrier(3)

        def used(_: int) -> Connection:
            with alices.read() as conn:
                together.wait()
                return conn

        with ThreadPoolExecutor(3) as pool:
            theirs = list(pool.map(used, range(3)))

        assert len({id(conn) for conn in (mine, *theirs)}) == 4

    @pytest.mark.parametrize("writing", [False, True])
    def test_after_an_exception_the_connection_is_closed_and_the_next_is_fresh(
        self, alices: Store, writing: bool
    ) -> None:
        before = self.used(alices)
        with pytest.raises(RuntimeError), alices.write() if writing else alices.read() as conn:
            assert conn is before
            raise RuntimeError

        assert before.closed
        after = self.used(alices)
        assert after is not before
        with alices.write() as conn:
            enrolments.update_enrolment(conn, ALICE, last_index=8)
        with alices.read() as conn:
            row = enrolments.load_enrolment(conn, ALICE)
        assert row is not None and row.last_index == 8

    def test_a_hundred_exceptions_use_up_no_connection(self, alices: Store) -> None:
        for _ in range(100):
            with pytest.raises(RuntimeError), alices.read():
                raise RuntimeError

        pool: Any = alices.engine.pool
        assert pool.checkedout() == 0
        assert self.used(alices)

    def test_close_closes_those_of_all_threads(self, alices: Store, path: Path) -> None:
        """The log is folded into the file: a copy of the file alone is then the whole database."""
        together, done = threading.Barrier(4), threading.Event()
        seen: list[Connection] = []

        def work() -> None:
            seen.append(self.used(alices))
            together.wait()
            done.wait(60)

        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
        together.wait()
        seen.append(self.used(alices))

        alices.close()

        assert [conn.closed for conn in seen] == [True] * 4
        assert not path.with_name(path.name + "-wal").exists()
        done.set()
        for worker in workers:
            worker.join()
        assert self.used(alices) not in seen  # and whoever goes on gets a new one

    def test_a_read_inside_a_write_sees_what_was_committed_before(self, alices: Store) -> None:
        for index in range(1, 101):
            with alices.write() as writing:
                enrolments.update_enrolment(writing, ALICE, last_index=index)
                with alices.read() as reading:
                    assert reading is not writing
                    row = enrolments.load_enrolment(reading, ALICE)
                assert row is not None and row.last_index == index - 1
                own = enrolments.load_enrolment(writing, ALICE)
                assert own is not None and own.last_index == index

        with alices.read() as conn:
            row = enrolments.load_enrolment(conn, ALICE)
        assert row is not None and row.last_index == 100
        gc.collect()
        pool: Any = alices.engine.pool
        assert pool.checkedout() <= 2

    def test_an_exception_in_a_nested_read_rolls_the_write_back(self, alices: Store) -> None:
        with pytest.raises(RuntimeError), alices.write() as writing:
            enrolments.update_enrolment(writing, ALICE, last_index=7)
            with alices.read():
                raise RuntimeError

        with alices.read() as conn:
            assert enrolments.load_enrolment(conn, ALICE) == enrolment_row()
        with alices.write() as conn:  # the writer's lock is free again
            enrolments.update_enrolment(conn, ALICE, last_index=8)


class TestMigrations:
    def test_the_migrated_schema_is_the_one_in_the_code(self, store: Store) -> None:
        with store.read() as conn:
            assert compare_metadata(MigrationContext.configure(conn), metadata) == []
            assert migrate.current_revision(conn) == migrate.head_revision()

    def test_indexes_are_partial_in_both(self, store: Store, tmp_path: Path) -> None:
        """The comparison of schemata does not look at index conditions and table options."""
        direct = Store(sqlite_url(tmp_path / "direct.db"))
        with direct.write() as conn:
            metadata.create_all(conn)

        def definitions(store: Store) -> set[str]:
            with store.read() as conn:
                rows = conn.exec_driver_sql("SELECT sql FROM sqlite_master WHERE tbl_name != 'alembic_version'")
                return {" ".join(sql.split()).replace(" ,", ",") for (sql,) in rows if sql and "INDEX" in sql}

        assert definitions(direct) == definitions(store)
        with store.read() as conn:
            table = conn.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'logins'").scalar_one()
        assert table.rstrip().endswith("WITHOUT ROWID")
        direct.close()

    def test_upgrading_again_keeps_the_rows(self, alices: Store) -> None:
        migrate.upgrade(alices)

        with alices.read() as conn:
            assert enrolments.load_enrolment(conn, ALICE) == enrolment_row()

    def test_down_to_nothing_and_up_again(self, alices: Store) -> None:
        migrate.downgrade(alices, "base")
        with alices.read() as conn:
            assert inspect(conn).get_table_names() in ([], ["alembic_version"])

        migrate.upgrade(alices)
        with alices.read() as conn:
            assert enrolments.list_enrolments(conn) == []

    def test_servers_that_start_together_migrate_once(self, path: Path) -> None:
        stores = [Store(sqlite_url(path)) for _ in range(4)]

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(migrate.upgrade, stores))

        with stores[0].read() as conn:
            assert migrate.current_revision(conn) == migrate.head_revision()
        for store in stores:
            store.close()

    def test_a_database_of_a_newer_version_is_refused_and_untouched(self, store: Store, path: Path) -> None:
        store.close()
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.close()

        with pytest.raises(migrate.MigrationError):
            migrate.upgrade(store)
        with store.read() as conn:
            assert migrate.current_revision(conn) == "9999"


class TestEnrolments:
    def test_an_update_sets_what_is_named_and_nothing_else(self, alices: Store) -> None:
        with alices.write() as conn:
            enrolments.insert_enrolment(conn, enrolment_row(BOB))
            enrolments.update_enrolment(conn, ALICE, epoch=3, sealed_template=None, last_attempt_at=5.25)

        with alices.read() as conn:
            expected = replace(enrolment_row(), epoch=3, sealed_template=None, last_attempt_at=5.25)
            assert enrolments.load_enrolment(conn, ALICE) == expected
            assert enrolments.load_enrolment(conn, BOB) == enrolment_row(BOB)

    @pytest.mark.parametrize("name", ["id", "created_at", "epoch; DROP TABLE enrolments"])
    def test_a_column_that_may_not_change_is_refused(self, name: str, alices: Store) -> None:
        with pytest.raises(KeyError), alices.write() as conn:
            enrolments.update_enrolment(conn, ALICE, **{name: b"x"})  # type: ignore[misc]

    def test_updating_nothing_there_is_an_error(self, alices: Store) -> None:
        with pytest.raises(KeyError), alices.write() as conn:
            enrolments.update_enrolment(conn, BOB, epoch=1)

    def test_secret_columns_are_not_in_the_repr(self) -> None:
        shown = repr(enrolment_row()) + repr(credential_row()) + repr(login_row(1))

        assert "sealed" not in shown
        assert "token_hash" not in shown


class TestCredentials:
    def test_a_credential_needs_its_enrolment(self, store: Store) -> None:
        with pytest.raises(IntegrityError), store.write() as conn:
            credentials.insert_credential(conn, credential_row())

    def test_a_revoked_credential_has_no_share(self, alices: Store) -> None:
        other = credential_row(b"d" * 32)
        with alices.write() as conn:
            credentials.insert_credential(conn, other)
            credentials.revoke_credential(conn, CREDENTIAL)

        with alices.read() as conn:
            revoked = replace(credential_row(), status="revoked", sealed_share=None)
            assert credentials.list_credentials(conn, ALICE) == [revoked, other]
            # A revoked credential leaves its place to another.
            assert credentials.count_credentials(conn, ALICE) == 1

    def test_all_credentials_of_one_enrolment_are_revoked_and_no_other(self, alices: Store) -> None:
        bobs = credential_row(b"d" * 32, BOB)
        with alices.write() as conn:
            enrolments.insert_enrolment(conn, enrolment_row(BOB))
            credentials.insert_credential(conn, bobs)
            assert credentials.revoke_credentials_of(conn, ALICE) == 1

        with alices.read() as conn:
            assert credentials.load_credential(conn, b"d" * 32) == bobs

    def test_counter_status_and_share_are_set(self, alices: Store) -> None:
        with alices.write() as conn:
            credentials.set_sign_count(conn, CREDENTIAL, 2**32 - 1)
            credentials.set_credential_share(conn, CREDENTIAL, b"next share", "active")

        with alices.read() as conn:
            expected = replace(credential_row(), sign_count=2**32 - 1, sealed_share=b"next share", status="active")
            assert credentials.load_credential(conn, CREDENTIAL) == expected

    def test_only_provisional_credentials_that_nothing_came_of_are_abandoned(self, alices: Store) -> None:
        ids = {name: name.encode().ljust(32, b"-") for name in ("old", "young", "answered", "refused")}
        with alices.write() as conn:
            for name, credential_id in ids.items():
                made_at = 90.0 if name == "young" else 10.0
                row = replace(credential_row(credential_id), status="provisional", created_at=made_at)
                credentials.insert_credential(conn, row)
            logins.insert_login(conn, login_row(1, credential_id=ids["answered"]))
            logins.insert_login(conn, login_row(2, credential_id=ids["refused"], state="failed", token_hash=None))
            credentials.delete_abandoned_credentials(conn, ALICE, 50.0)

        with alices.read() as conn:
            left = {row.id for row in credentials.list_credentials(conn, ALICE)}
        assert left == {CREDENTIAL, ids["young"], ids["answered"]}


class TestLogins:
    def test_an_index_is_consumed_once(self, alices: Store) -> None:
        with alices.write() as conn:
            logins.insert_login(conn, login_row(5))

        with pytest.raises(IntegrityError), alices.write() as conn:
            logins.insert_login(conn, login_row(5, request_hash=b"q" * 32))

    def test_confirming_voids_the_others_of_the_epoch_and_forgets_the_epoch_before(self, alices: Store) -> None:
        with alices.write() as conn:
            for index in (1, 2, 3):
                logins.insert_login(conn, login_row(index))
            logins.confirm_login(conn, ALICE, 2, 10.0)
            first_void = logins.void_token_hashes(conn, ALICE)
            for index in (4, 5):
                logins.insert_login(conn, login_row(index))
            logins.confirm_login(conn, ALICE, 5, 20.0)

        assert first_void == [b"\x01" * 32, b"\x03" * 32]
        with alices.read() as conn:
            assert logins.void_token_hashes(conn, ALICE) == [b"\x04" * 32]
            assert logins.pending_logins(conn, ALICE) == []
            states = {index: logins.load_login(conn, ALICE, index) for index in range(1, 6)}
        assert {index: row.state for index, row in states.items() if row} == {
            1: "failed",
            2: "confirmed",
            3: "failed",
            4: "void",
            5: "confirmed",
        }
        assert all(row and row.sealed_rho is None for row in states.values())
        assert states[5] == login_row(5, state="confirmed", token_hash=None, sealed_rho=None, confirmed_at=20.0)

    def test_only_a_pending_login_can_be_confirmed(self, alices: Store) -> None:
        with alices.write() as conn:
            logins.insert_login(conn, login_row(1, state="failed", token_hash=None, sealed_rho=None))

        for index in (1, 2):
            with pytest.raises(KeyError), alices.write() as conn:
                logins.confirm_login(conn, ALICE, index, 10.0)

    def test_dropped_logins_keep_no_secret(self, alices: Store) -> None:
        with alices.write() as conn:
            logins.insert_login(conn, login_row(1))
            logins.insert_login(conn, login_row(2, state="void", sealed_rho=None))
            assert logins.drop_pending_logins(conn, ALICE) == 1

        with alices.read() as conn:
            dropped = login_row(1, state="failed", token_hash=None, sealed_rho=None)
            assert logins.load_login(conn, ALICE, 1) == dropped
            assert logins.load_login(conn, ALICE, 2) == login_row(2, state="void", sealed_rho=None)

    def test_the_day_budget_finds_the_nth_latest_attempt_of_any_outcome(self, alices: Store) -> None:
        with alices.write() as conn:
            for index, state in ((1, "failed"), (2, "pending"), (9, "confirmed"), (70, "failed")):
                logins.insert_login(conn, login_row(index, state=state))

        with alices.read() as conn:
            times = [logins.nth_latest_attempt_time(conn, ALICE, n) for n in (1, 2, 3, 4, 5)]
            assert times == [70.0, 9.0, 2.0, 1.0, None]
            assert logins.nth_latest_attempt_time(conn, BOB, 1) is None

    def test_the_unconfirmed_budget_counts_cost_and_leaves_confirmed_ones_out(self, alices: Store) -> None:
        with alices.write() as conn:
            logins.insert_login(conn, login_row(1, state="failed", cost=100))
            logins.insert_login(conn, login_row(2, state="failed", cost=3))
            logins.insert_login(conn, login_row(3, state="pending", cost=3))
            logins.insert_login(conn, login_row(4, state="void", cost=3))
            logins.insert_login(conn, login_row(5, state="confirmed", cost=3))

        with alices.read() as conn:
            assert logins.unconfirmed_count_since(conn, ALICE, 2.0) == 9
            assert logins.unconfirmed_count_since(conn, ALICE, 2.5) == 6
            assert logins.unconfirmed_count_since(conn, BOB, 0.0) == 0

    def test_a_long_history_is_not_walked(self, alices: Store) -> None:
        """Budgets and confirmations look at open logins only; every such query must use the index made for that."""
        statements: list[str] = []
        with alices.read() as conn:
            driver = conn.connection.driver_connection
            assert driver is not None
            driver.set_trace_callback(statements.append)
            logins.pending_logins(conn, ALICE)
            logins.void_token_hashes(conn, ALICE)
            logins.unconfirmed_count_since(conn, ALICE, 0.0)
            driver.set_trace_callback(None)
            plans = [
                " ".join(row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}"))
                for statement in statements
                if statement.startswith("SELECT")
            ]

        assert len(plans) == 3
        assert all("COVERING INDEX ix_logins_unconfirmed (enrolment_id=? AND state=?" in plan for plan in plans)


class TestCodes:
    def issue(self, store: Store, enrolment_id: bytes | None = None) -> None:
        with store.write() as conn:
            insert_code(
                conn,
                code_hash=b"h" * 32,
                purpose="enrol" if enrolment_id is None else "recover",
                enrolment_id=enrolment_id,
                label="Alice",
                created_at=100.0,
                expires_at=200.0,
            )

    def test_of_many_takers_one_gets_the_code(self, store: Store) -> None:
        self.issue(store)
        together = threading.Barrier(8)

        def take(_: int) -> bool:
            together.wait()
            with store.write() as conn:
                return take_code(conn, b"h" * 32, "enrol", 150.0) is not None

        with ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(take, range(8)))

        assert taken.count(True) == 1

    @pytest.mark.parametrize(
        ("code_hash", "purpose", "now"),
        [(b"g" * 32, "enrol", 150.0), (b"h" * 32, "recover", 150.0), (b"h" * 32, "enrol", 200.0)],
        ids=["unknown", "for something else", "expired"],
    )
    def test_a_code_that_does_not_fit_is_not_taken(
        self, code_hash: bytes, purpose: str, now: float, store: Store
    ) -> None:
        self.issue(store)

        with store.write() as conn:
            assert take_code(conn, code_hash, purpose, now) is None  # type: ignore[arg-type]
        with store.write() as conn:
            assert take_code(conn, b"h" * 32, "enrol", 150.0) is not None

    def test_a_refusal_after_taking_gives_the_code_back(self, store: Store) -> None:
        self.issue(store)

        with pytest.raises(RuntimeError), store.write() as conn:
            assert take_code(conn, b"h" * 32, "enrol", 150.0) is not None
            raise RuntimeError

        with store.write() as conn:
            taken = take_code(conn, b"h" * 32, "enrol", 150.0)
        assert taken is not None
        assert (taken.label, taken.enrolment_id) == ("Alice", None)

    def test_a_withdrawn_code_is_dead(self, store: Store) -> None:
        self.issue(store, ALICE)

        with store.write() as conn:
            assert withdraw_codes(conn, ALICE, 120.0) == 1
            assert take_code(conn, b"h" * 32, "recover", 150.0) is None


def test_events_are_listed_newest_first(alices: Store) -> None:
    with alices.write() as conn:
        events.append_event(conn, at=1.0, enrolment_id=ALICE, name="enrolled")
        events.append_event(conn, at=2.0, enrolment_id=ALICE, name="quarantined", detail={"reason": "ot"})
        events.append_event(conn, at=3.0, name="code_issued")

    with alices.read() as conn:
        listed = [(row.at, row.name, row.detail) for row in events.list_events(conn, ALICE)]
    assert listed == [(2.0, "quarantined", '{"reason":"ot"}'), (1.0, "enrolled", "{}")]
