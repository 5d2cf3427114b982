"""Turns: of one enrolment one login at a time, whoever asks, and a turn ends with its holder."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from sqlalchemy import text
from state_machine_databases import database_url
from state_machine_harness import LOGINS, Clock, Phone, Server, signed, to_base64
from state_machine_processes import PROCESSES
from state_machine_thief import crafted_login

from authsvc.store.engine import Store
from authsvc.store.turns import TurnNotFree
from device_sdk.transport import RequestKey

ONE, OTHER = bytes(range(16)), bytes(range(16, 32))
LONG_S = 30.0


@pytest.fixture
def stores(folder: Path) -> Iterator[list[Store]]:
    """Two processes' worth, in which one thread may wait. On SQLite they share this process's lock file."""
    made = [Store(database_url(folder), most_waiting=1) for _ in range(2)]
    yield made
    for store in made:
        store.close()


class Asking(threading.Thread):
    """A thread that asks for a turn; `has_it` and `has_left` say how far it came."""

    def __init__(self, store: Store, enrolment_id: bytes = ONE) -> None:
        super().__init__(daemon=True)
        self._store, self._id = store, enrolment_id
        self.has_it, self.may_leave = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with self._store.enrolment_turn(self._id):
                self.has_it.set()
                self.may_leave.wait(LONG_S)
        except Exception as error:
            self.error = error

    def leave(self) -> None:
        self.may_leave.set()
        self.join(LONG_S)
        assert not self.is_alive() and self.error is None


@pytest.mark.parametrize("second", [0, 1], ids=["of the same worker", "of another worker"])
def test_a_second_login_waits_and_one_of_another_enrolment_does_not(stores: list[Store], second: int) -> None:
    """Otherwise parallel wrong attempts would all be computed before the first of them is counted."""
    first = Asking(stores[0])
    assert first.has_it.wait(LONG_S)

    waiting, elsewhere = Asking(stores[second]), Asking(stores[second], OTHER)

    assert elsewhere.has_it.wait(LONG_S)
    assert not waiting.has_it.wait(0.2)
    first.leave()
    assert waiting.has_it.wait(LONG_S)
    waiting.leave()
    elsewhere.leave()


@pytest.mark.parametrize("second", [0, 1], ids=["of the same worker", "of another worker"])
def test_beyond_the_threads_that_may_wait_nobody_does(stores: list[Store], second: int) -> None:
    """With stolen keys somebody could otherwise have every thread of a worker wait, and nobody else would be served."""
    first = Asking(stores[0])
    assert first.has_it.wait(LONG_S)
    waiting = Asking(stores[second])
    assert not waiting.has_it.wait(0.2)

    with pytest.raises(TurnNotFree), stores[second].enrolment_turn(ONE):
        raise AssertionError("two have it")
    with stores[second].enrolment_turn(OTHER):
        pass

    first.leave()
    assert waiting.has_it.wait(LONG_S)
    waiting.leave()


def test_a_transaction_that_fails_neither_ends_a_turn_nor_takes_it_along(stores: list[Store]) -> None:
    """A connection that went back to the pool with the lock on it would block this enrolment until the process ends."""
    with stores[0].enrolment_turn(ONE):
        for transaction in (stores[0].read, stores[0].write, stores[0].write_enrolment):
            with pytest.raises(ZeroDivisionError), transaction():
                raise ZeroDivisionError
        outsider = Asking(stores[1])
        assert not outsider.has_it.wait(0.2)
    assert outsider.has_it.wait(LONG_S)
    outsider.leave()
    again = Asking(stores[0])
    assert again.has_it.wait(LONG_S)
    again.leave()


def test_a_lost_connection_loses_the_turn_and_nothing_else(stores: list[Store]) -> None:
    """The database restarts during a login: the verdict is still written, on a new connection, and the next comes."""
    if stores[0].engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no connection that could be lost")
    with stores[0].enrolment_turn(ONE):
        with stores[1].engine.connect() as other:
            other.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        with stores[0].write() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
    for store in stores:
        with store.enrolment_turn(ONE):
            pass


def hold_until_killed(pipe: Connection, folder: str) -> None:
    store = Store(database_url(Path(folder)))
    with store.enrolment_turn(ONE):
        pipe.send("has it")
        pipe.recv()


def test_another_process_is_kept_out_until_its_killed_holder_is_gone(stores: list[Store], folder: Path) -> None:
    """A crash strands nobody: locks end with the process that held them."""
    pipe, theirs = PROCESSES.Pipe()
    holder = PROCESSES.Process(target=hold_until_killed, args=(theirs, str(folder)), daemon=True)
    holder.start()
    assert pipe.poll(LONG_S) and pipe.recv() == "has it"
    waiting = Asking(stores[0])
    assert not waiting.has_it.wait(0.2)

    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)

    assert waiting.has_it.wait(LONG_S)
    waiting.leave()
    holder.join()


def test_only_an_authenticated_request_asks_for_a_turn(phone: Phone, folder: Path, clock: Clock) -> None:
    """A stranger who knows an id must not be able to stand in its user's way."""
    server = Server(folder, clock, make_store=lambda url: Store(url, most_waiting=0))
    holder = Asking(server.store, phone.id)
    assert holder.has_it.wait(LONG_S)
    genuine = crafted_login(phone, ot_index=2, sign_count=2)
    forged = signed(LOGINS, genuine.body, RequestKey.generate(), to_base64(phone.id), clock())

    assert server.serve(forged).code == "unauthenticated"
    assert server.serve(genuine).code == "unavailable"  # nobody may wait here, so this one has asked

    holder.leave()
    assert server.serve(forged).code == "unauthenticated"
    assert server.serve(genuine).code == "ok"
    server.close()
