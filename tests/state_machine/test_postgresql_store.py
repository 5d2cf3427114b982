"""What PostgreSQL has to do for the server that SQLite does by being one file: locks, faults, several workers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from state_machine_databases import ADMINISTRATION, database_url, impatient, new_database, postgresql_is_reachable

from authsvc.store import migrate
from authsvc.store.engine import Store, StoreUnavailable
from authsvc.store.enrolments import EnrolmentRow, insert_enrolment, load_enrolment, update_enrolment
from authsvc.store.events import append_event, list_events

pytestmark = pytest.mark.skipif(not postgresql_is_reachable(), reason="PostgreSQL not reachable")

ONE, OTHER = b"1" * 16, b"2" * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_database(tmp_path, "postgresql")
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store(database_url(folder))
    with opened.write() as conn:
        for enrolment_id in (ONE, OTHER):
            insert_enrolment(conn, _row(enrolment_id))
    yield opened
    opened.close()


def _row(enrolment_id: bytes) -> EnrolmentRow:
    return EnrolmentRow(
        id=enrolment_id,
        status="active",
        status_reason=None,
        label="somebody",
        profile_name="sim-512",
        code_hash=bytes(32),
        signing_key=b"\x04" + bytes(64),
        next_signing_key=None,
        epoch=0,
        base_ot_id=None,
        sealed_base_ot=None,
        sealed_pending_base_ot=None,
        pending_base_ot_id=None,
        sealed_template=None,
        last_index=0,
        confirmed_index=None,
        confirmed_token_hash=None,
        consecutive_failures=0,
        last_attempt_at=None,
        template_attempts=0,
        created_at=0.0,
        updated_at=0.0,
    )


def count_up(store: Store, enrolment_id: bytes) -> None:
    with store.write_enrolment() as conn:
        row = load_enrolment(conn, enrolment_id, lock=True)
        assert row is not None
        update_enrolment(conn, enrolment_id, template_attempts=row.template_attempts + 1)


def counted(store: Store, enrolment_id: bytes) -> int:
    with store.read() as conn:
        row = load_enrolment(conn, enrolment_id)
    assert row is not None
    return row.template_attempts


def test_no_counted_attempt_is_lost_between_threads_and_processes(folder: Path, store: Store) -> None:
    """The limits on guessing hold only if no two workers can count from the same number."""
    program = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from state_machine_databases import database_url\n"
        "from test_postgresql_store import ONE, Store, count_up\n"
        "store = Store(database_url(Path(sys.argv[1])))\n"
        "for _ in range(50): count_up(store, ONE)\n"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    workers = [subprocess.Popen([sys.executable, "-c", program, str(folder), *paths]) for _ in range(3)]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(100):
            threads.submit(count_up, store, ONE)
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]

    assert counted(store, ONE) == 250


def test_another_enrolment_is_not_waited_for_and_everything_else_is(store: Store) -> None:
    other = Store(store.engine.url)
    impatient(other)

    with store.write_enrolment() as conn:
        load_enrolment(conn, ONE, lock=True)
        count_up(other, OTHER)
        with pytest.raises(StoreUnavailable):
            count_up(other, ONE)
        with pytest.raises(StoreUnavailable), other.write():
            pass
    with store.write(), pytest.raises(StoreUnavailable):
        count_up(other, OTHER)
    count_up(other, ONE)
    other.close()

    assert (counted(store, ONE), counted(store, OTHER)) == (1, 1)


def test_a_snapshot_does_not_see_what_is_committed_meanwhile(store: Store) -> None:
    with store.read() as conn:
        assert load_enrolment(conn, ONE) == _row(ONE)
        thread = threading.Thread(target=count_up, args=(store, ONE))
        thread.start()
        thread.join()
        assert load_enrolment(conn, ONE) == _row(ONE)

    assert counted(store, ONE) == 1


def test_what_was_not_committed_when_the_connection_broke_is_not_there(store: Store) -> None:
    with pytest.raises(StoreUnavailable), store.write_enrolment() as conn:
        load_enrolment(conn, ONE, lock=True)
        update_enrolment(conn, ONE, template_attempts=99)
        _hang_up_on_everybody(store)
        conn.execute(text("SELECT 1"))

    assert counted(store, ONE) == 0
    count_up(store, ONE)
    assert counted(store, ONE) == 1


def test_after_a_restart_of_the_database_the_next_transaction_works(store: Store) -> None:
    """Every thread keeps a connection; none of them may make a login fail because it is an old one."""
    count_up(store, ONE)
    _hang_up_on_everybody(store)

    count_up(store, ONE)

    assert counted(store, ONE) == 2


def test_a_database_that_is_not_there_is_reported_as_unavailable(tmp_path: Path) -> None:
    store = Store("postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(StoreUnavailable), store.read():
        pass
    store.close()


def test_secrets_are_in_no_exception_text(store: Store) -> None:
    """A statement that fails has key material among its parameters."""
    with pytest.raises(Exception) as caught, store.write() as conn:
        insert_enrolment(conn, _row(ONE))

    assert "23505 pk_enrolments" in str(caught.value)
    assert "somebody" not in str(caught.value) and ONE.hex() not in str(caught.value)


def test_another_default_isolation_of_the_database_changes_nothing(store: Store) -> None:
    """With a snapshot older than the lock, parallel failures would count as one."""
    _administer(store, "ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'")
    store.engine.dispose()

    with ThreadPoolExecutor(4) as threads:
        assert all(done is None for done in threads.map(lambda _: count_up(store, ONE), range(40)))

    assert counted(store, ONE) == 40


def test_a_transaction_in_which_a_statement_failed_is_never_reported_as_written(store: Store) -> None:
    """PostgreSQL answers COMMIT with a silent rollback then."""
    with pytest.raises(RuntimeError, match="nothing of it"), store.write_enrolment() as conn:
        load_enrolment(conn, ONE, lock=True)
        update_enrolment(conn, ONE, template_attempts=7)
        with contextlib.suppress(DBAPIError):
            conn.execute(text("SELECT 1/0"))

    assert counted(store, ONE) == 0
    count_up(store, ONE)


def test_after_a_restart_no_old_connection_of_the_pool_makes_a_login_fail(store: Store) -> None:
    """Each refusal hands its connection back to the pool, so that a busy server has many."""
    inside = threading.Barrier(6)

    def refused(_: int) -> None:
        with pytest.raises(KeyError), store.read():
            inside.wait()
            raise KeyError

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(refused, range(6)))
    _hang_up_on_everybody(store)

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda _: counted(store, ONE), range(12))) == [0] * 12


def test_a_worker_that_hangs_in_a_transaction_does_not_stop_the_others(store: Store) -> None:
    """It loses its transaction before those who wait for it lose their patience."""
    with pytest.raises(StoreUnavailable), store.write():
        count_up(Store(store.engine.url), ONE)

    assert counted(store, ONE) == 1


def test_a_read_only_database_is_unavailable(store: Store) -> None:
    """A standby after a failover, say: the answer is 503, not a fault of the program."""
    with pytest.raises(StoreUnavailable), store.read() as conn:
        insert_enrolment(conn, _row(b"3" * 16))


def test_event_numbers_do_not_end_at_two_to_the_31(store: Store) -> None:
    """An event that cannot be numbered takes the quarantine that it tells of with it."""
    with store.write() as conn:
        conn.execute(text("SELECT setval(pg_get_serial_sequence('events', 'id'), 2147483647)"))
        append_event(conn, at=1.0, name="quarantined", enrolment_id=ONE)

    with store.read() as conn:
        assert [event.id for event in list_events(conn, ONE)] == [2**31]


def test_the_schema_goes_down_and_up_with_rows_in_place(store: Store) -> None:
    migrate.downgrade(store, "0001")
    with store.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM enrolments")).scalar_one() == 2
    migrate.upgrade(store)
    count_up(store, ONE)

    migrate.downgrade(store, "base")
    migrate.upgrade(store)

    with store.read() as conn:
        assert migrate.current_revision(conn) == migrate.head_revision()
        assert load_enrolment(conn, ONE) is None


def _administer(store: Store, statement: str) -> None:
    with psycopg.connect(ADMINISTRATION, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(str(store.engine.url.database))))


def _hang_up_on_everybody(store: Store) -> None:
    """As when the database server restarts."""
    with psycopg.connect(ADMINISTRATION, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [store.engine.url.database]
        )
