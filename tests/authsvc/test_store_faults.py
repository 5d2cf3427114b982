"""Disks fill up and drivers fail: nothing of such a transaction remains, and the next one works."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from authsvc.store.engine import Store, StoreUnavailable
from authsvc.store.prepared import Prepared
from authsvc.store.sqlite import sqlite_url

# As the store's own queries do it: past SQLAlchemy, which then knows of no transaction.
INSERT = Prepared(text("INSERT INTO notes VALUES (:body)"))


class FaultyConnection(sqlite3.Connection):
    """A real connection to a real file; the next calls of a name in `failing` fail, and do nothing."""

    failing: dict[str, int]

    def commit(self) -> None:
        self._fail("commit")
        super().commit()

    def rollback(self) -> None:
        self._fail("rollback")
        super().rollback()

    def _fail(self, name: str) -> None:
        if self.failing.get(name, 0):
            self.failing[name] -= 1
            raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def failing() -> dict[str, int]:
    """How many of the next commits and rollbacks fail."""
    return {}


@pytest.fixture
def store(tmp_path: Path, failing: dict[str, int]) -> Iterator[Store]:
    store = Store(sqlite_url(tmp_path / "a.db"))

    @event.listens_for(store.engine, "do_connect")
    def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> sqlite3.Connection:
        connection: FaultyConnection = sqlite3.connect(*arguments, factory=FaultyConnection, **options)
        connection.failing = failing
        return connection

    with store.write() as conn:
        conn.execute(text("CREATE TABLE notes (body TEXT)"))
    yield store
    store.close()


def note(store: Store, body: str) -> None:
    with store.write() as conn:
        INSERT.run(conn, {"body": body})


def notes(store: Store) -> list[str]:
    with store.read() as conn:
        return [row.body for row in conn.execute(text("SELECT body FROM notes ORDER BY rowid"))]


def from_elsewhere(path: Path, body: str) -> None:
    """Another process's write: it fails at once if anybody holds a transaction open."""
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO notes VALUES (?)", (body,))
        other.execute("COMMIT")
    finally:
        other.close()


def test_a_commit_that_fails_is_typed_and_leaves_nothing(store: Store, failing: dict[str, int], tmp_path: Path) -> None:
    """The caller must not take a verdict for stored that is not."""
    failing["commit"] = 1

    with pytest.raises(StoreUnavailable):
        note(store, "lost")

    assert failing["commit"] == 0
    from_elsewhere(tmp_path / "a.db", "theirs")
    note(store, "kept")
    assert notes(store) == ["theirs", "kept"]


def test_the_end_of_a_snapshot_that_fails_is_typed(store: Store, failing: dict[str, int]) -> None:
    """A reader's commit is one, too."""
    note(store, "kept")
    failing["commit"] = 1

    with pytest.raises(StoreUnavailable):
        notes(store)

    assert notes(store) == ["kept"]


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_rollback_that_fails_does_not_poison_the_next_write(
    store: Store, failing: dict[str, int], tmp_path: Path, failures: int
) -> None:
    """A connection with half a transaction in it is thrown away: it could neither begin another nor let others."""

    def leak() -> None:
        with store.write() as conn:
            conn.execute(text("INSERT INTO notes VALUES ('leak')"))
            raise RuntimeError

    failing["rollback"] = failures

    with pytest.raises((RuntimeError, StoreUnavailable)):
        leak()

    failing.clear()
    from_elsewhere(tmp_path / "a.db", "theirs")
    for body in ("one", "two"):
        note(store, body)
    assert notes(store) == ["theirs", "one", "two"]


def test_a_failed_commit_and_a_failed_rollback(store: Store, failing: dict[str, int], tmp_path: Path) -> None:
    """The disk is full for both."""
    failing.update(commit=1, rollback=2)

    with pytest.raises(StoreUnavailable):
        note(store, "lost")

    failing.clear()
    from_elsewhere(tmp_path / "a.db", "theirs")
    note(store, "kept")
    assert notes(store) == ["theirs", "kept"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("writing", [False, True])
def test_an_exception_inside_a_block_leaves_no_open_transaction(
    store: Store, tmp_path: Path, error: type[BaseException], writing: bool
) -> None:
    """Whatever it is that passes through."""
    drivers: list[Any] = []

    def interrupted() -> None:
        with store.write() if writing else store.read() as conn:
            drivers.append(conn.connection.driver_connection)
            conn.execute(text("INSERT INTO notes VALUES ('lost')" if writing else "SELECT * FROM notes"))
            assert drivers[0].in_transaction
            raise error

    with pytest.raises(error):
        interrupted()

    assert not drivers[0].in_transaction
    from_elsewhere(tmp_path / "a.db", "theirs")
    note(store, "kept")
    assert notes(store) == ["theirs", "kept"]


def test_a_statement_that_fails_leaves_no_open_transaction(store: Store, tmp_path: Path) -> None:
    """The driver's own error, from inside the block."""
    with pytest.raises(StoreUnavailable), store.write() as conn:
        conn.execute(text("INSERT INTO no_such_table VALUES (1)"))

    from_elsewhere(tmp_path / "a.db", "theirs")
    note(store, "kept")
    assert notes(store) == ["theirs", "kept"]


def test_a_hundred_threads_each_have_a_connection(store: Store) -> None:
    """All of them are inside a snapshot at the same time: none waits for another's connection."""
    count = 100
    together, drivers, failed = threading.Barrier(count, timeout=60), set[int](), list[BaseException]()

    def work(number: int) -> None:
        try:
            with store.read() as conn:
                drivers.add(id(conn.connection.driver_connection))
                assert conn.execute(text("SELECT count(*) FROM notes")).scalar_one() == 0
                together.wait()
            together.wait()  # nobody writes before everybody has read
            note(store, str(number))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(drivers) == count
    assert sorted(notes(store), key=int) == [str(number) for number in range(count)]


def test_a_second_store_of_the_same_file_does_not_unlock_the_first(tmp_path: Path) -> None:
    """Closing a file drops all POSIX locks of the process on it. Another process then takes itself for the last one,
    deletes the log, and what this one goes on writing is lost.
    """
    path = tmp_path / "a.db"
    first = Store(sqlite_url(path))
    with first.write() as conn:
        conn.execute(text("CREATE TABLE notes (body TEXT)"))
    Store(sqlite_url(path)).close()
    other = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute(\"INSERT INTO notes VALUES ('theirs')\")\n"
        "connection.commit()\n"
        "connection.close()\n"
    )
    subprocess.run([sys.executable, "-c", other, str(path)], check=True, timeout=60)
    with first.write() as conn:
        conn.execute(text("INSERT INTO notes VALUES ('ours')"))

    seen = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT body FROM notes').fetchall())"
    done = subprocess.run([sys.executable, "-c", seen, str(path)], check=True, timeout=60, capture_output=True)
    assert done.stdout.strip() == b"[('theirs',), ('ours',)]"
    first.close()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from sqlalchemy import text
from authsvc.store.engine import Store, StoreUnavailable
from authsvc.store.sqlite import sqlite_url
from authsvc.store.prepared import Prepared

insert = Prepared(text("INSERT INTO notes VALUES (:body)"))
path = Path(sys.argv[1])
store = Store(sqlite_url(path))
with store.write() as conn:
    conn.execute(text("CREATE TABLE notes (body TEXT)"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is then an error of that write
unlimited = resource.RLIM_INFINITY
size = path.with_name(path.name + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, unlimited))
for _ in range(3):
    try:
        with store.write() as conn:
            insert.run(conn, {"body": "a" * 30000})
            print("inserted")
    except StoreUnavailable:
        print("unavailable")
resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
with store.write() as conn:
    conn.execute(text("INSERT INTO notes VALUES ('kept')"))
with store.read() as conn:
    print(conn.execute(text("SELECT group_concat(body) FROM notes")).scalar_one())
store.close()
"""


def test_a_full_disk(tmp_path: Path) -> None:
    """The operating system takes no more bytes, and then it does again."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.db")], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["inserted", "unavailable"] * 3 + ["kept"]
