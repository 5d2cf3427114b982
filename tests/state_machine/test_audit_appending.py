"""Several workers append to the log at once, and die while they do; checkpoints are written beside them."""

from __future__ import annotations

import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import text
from state_machine_databases import database_url
from state_machine_harness import (
    FACE,
    NO_LIMITS,
    STRANGER,
    Clock,
    Phone,
    Server,
    assert_audited,
    policy,
    to_base64,
)
from state_machine_processes import PROCESSES
from state_machine_thief import crafted_login

from authsvc.logs import configure_logs
from authsvc.services.audit_verification import verify_log
from authsvc.services.checkpoint_document import SignedCheckpoint
from authsvc.services.checkpoint_thread import CheckpointThread
from authsvc.services.checkpoints import write_checkpoint
from authsvc.store.checkpoints import checkpoints, latest_checkpoint
from authsvc.store.engine import Store
from authsvc.store.enrolments import load_enrolment, update_enrolment
from authsvc.store.event_search import EventFilter, search_events
from authsvc.store.events import EnrolmentChain, EventRow, append_event, list_events
from device_sdk.errors import NoMatch


def all_events(server: Server) -> list[EventRow]:
    with server.store.read() as conn:
        return search_events(conn, EventFilter(), limit=10**6)


def append(store: Store, owner: bytes | None, times: int) -> None:
    for _ in range(times):
        if owner is None:
            with store.write() as conn:
                append_event(conn, at=1.0, name="code_issued")
        else:
            with store.write_enrolment() as conn:
                row = load_enrolment(conn, owner, lock=True)
                assert row is not None
                chain = EnrolmentChain(row)
                chain.append(conn, at=1.0, name="recovered")
                chain.append(conn, at=1.0, name="enrolled")
                update_enrolment(conn, owner, template_attempts=row.template_attempts, **chain.head)


def append_until_killed(pipe: Connection, folder: str, owner: bytes) -> None:
    """A worker's main: tells each commit, and never ends by itself."""
    store = Store(database_url(Path(folder)))
    pipe.send("ready")
    while True:
        append(store, owner, 1)
        pipe.send("committed")


def test_two_workers_that_append_at_once_leave_one_chain(folder: Path, clock: Clock, phone: Phone) -> None:
    """Both read the same head otherwise, and the later event hides the earlier one."""
    workers = [Server(folder, clock) for _ in range(2)]
    before = len(all_events(workers[0]))

    def work(at: int) -> None:
        append(workers[at % 2].store, phone.id if at % 4 < 2 else None, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert len(all_events(workers[0])) == before + 4 * 20 + 4 * 10
    for worker in workers:
        worker.close()


def test_checkpoints_written_beside_appends_and_by_two_workers_fit(folder: Path, clock: Clock, phone: Phone) -> None:
    """An event that commits late under a low id would fall between two checkpoints for ever."""
    workers = [Server(folder, clock) for _ in range(2)]

    def work(at: int) -> None:
        if at % 3 == 0:
            for _ in range(4):
                write_checkpoint(workers[at % 2].ctx)
        else:
            append(workers[at % 2].store, phone.id if at % 3 == 1 else None, 8)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(9)))
    write_checkpoint(workers[0].ctx)

    report = verify_log(workers[1].ctx)
    assert report.ok, report.findings
    assert report.covered == report.events and report.checkpoints >= 2
    for worker in workers:
        worker.close()


def test_a_worker_killed_while_it_appends_breaks_no_chain(folder: Path, clock: Clock, phone: Phone) -> None:
    """SIGKILL at any moment: event and head are of one transaction."""
    looks_on = Server(folder, clock)
    for round_ in range(4):
        pipe, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=append_until_killed, args=(theirs, str(folder), phone.id), daemon=True)
        process.start()
        theirs.close()
        assert pipe.recv() == "ready"
        for _ in range(3 + round_):
            assert pipe.recv() == "committed"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        assert_audited(looks_on)
    write_checkpoint(looks_on.ctx)
    append(looks_on.store, phone.id, 1)
    looks_on.close()


def test_an_append_whose_head_was_forgotten_fails_the_next(folder: Path, clock: Clock, phone: Phone) -> None:
    """A caller's mistake must not fork the chain in silence."""
    worker = Server(folder, clock)
    with pytest.raises(Exception, match=r"(?i)unique|23505"), worker.store.write_enrolment() as conn:
        row = load_enrolment(conn, phone.id, lock=True)
        assert row is not None
        EnrolmentChain(row).append(conn, at=1.0, name="recovered")
        append_event(conn, at=1.0, name="recovered", enrolment_id=phone.id)
    worker.close()


def test_an_event_of_nobody_or_of_an_unknown_name_is_refused(server: Server) -> None:
    with pytest.raises(KeyError), server.store.write() as conn:
        append_event(conn, at=1.0, name="enrolled", enrolment_id=b"\x07" * 16)
    with pytest.raises(ValueError, match="event_names"), server.store.write() as conn:
        append_event(conn, at=1.0, name="unheard_of")  # type: ignore[arg-type]


# ---- when checkpoints are written ----------------------------------------------------------------


def test_nothing_new_gives_no_checkpoint(server: Server) -> None:
    assert write_checkpoint(server.ctx) is not None
    assert write_checkpoint(server.ctx) is None


def test_another_workers_checkpoint_is_enough_for_a_while(server: Server, clock: Clock) -> None:
    """Of many workers one signs; the others look, and go on."""
    write_checkpoint(server.ctx)
    append(server.store, None, 1)
    clock.advance(10)

    assert write_checkpoint(server.ctx, unless_within_s=15) is None
    clock.advance(10)
    assert write_checkpoint(server.ctx, unless_within_s=15) is not None


def test_a_clock_that_was_set_back_stops_no_checkpoints(server: Server, clock: Clock) -> None:
    write_checkpoint(server.ctx)
    append(server.store, None, 1)
    clock.advance(-86_400)

    assert write_checkpoint(server.ctx, unless_within_s=15) is not None


def test_of_two_that_compute_at_once_one_is_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds another in its place, and leaves it."""
    append(server.store, None, 1)
    sign = SignedCheckpoint.decode
    faster: list[object] = []

    def overtaken(document: bytes) -> SignedCheckpoint:
        if not faster:
            faster.append(None)
            faster[0] = write_checkpoint(server.ctx)
        return sign(document)

    monkeypatch.setattr(SignedCheckpoint, "decode", overtaken)

    assert write_checkpoint(server.ctx) is None
    assert faster[0] is not None
    with server.store.read() as conn:
        assert len(list(checkpoints(conn))) == 1


def test_the_thread_signs_while_the_server_runs_and_once_more_when_it_stops(server: Server) -> None:
    thread = CheckpointThread(server.ctx, 0.02)
    thread.start()
    append(server.store, None, 1)
    for _ in range(2000):
        with server.store.read() as conn:
            first = latest_checkpoint(conn)
        if first is not None:
            break
        thread._thread.join(0.01)
    server.clock.advance(-1)  # the interval has not passed by the server's clock
    append(server.store, None, 1)
    thread.stop()

    report = verify_log(server.ctx)
    assert report.ok and report.covered == report.events


def test_a_tampered_checkpoint_stops_neither_the_thread_nor_the_server(
    folder: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs()  # as a server does
    worker = Server(folder, clock)
    write_checkpoint(worker.ctx)
    append(worker.store, None, 1)
    with worker.store.write() as conn:
        conn.execute(text("UPDATE audit_checkpoints SET document = :d"), {"d": b"{}"})
    thread = CheckpointThread(worker.ctx, 0.05)
    thread.start()
    told = ""
    deadline = monotonic() + 20
    while told.count("audit_log_altered") < 3 and monotonic() < deadline:
        told += "".join(capsys.readouterr())

    thread.stop()

    assert told.count("audit_log_altered") >= 3, "it goes on, and complains each time"
    assert told.count("is not the one that was written last") >= 3, "with the reason"
    with worker.store.read() as conn:
        assert len(list(checkpoints(conn))) == 1
    worker.store.close()


# ---- what is in the log --------------------------------------------------------------------------


def details(server: Server, owner: bytes, name: str) -> list[dict[str, Any]]:
    with server.store.read() as conn:
        return [json.loads(row.detail) for row in reversed(list_events(conn, owner)) if row.name == name]


def test_a_login_leaves_an_event_when_it_is_answered_and_one_when_it_is_confirmed(phone: Phone, server: Server) -> None:
    phone.get()
    assert phone.confirm()

    (credential,) = server.credentials(phone.id)
    told = {
        "ot_index": 2,
        "epoch": 1,
        "kind": "get",
        "credential_id": to_base64(credential.id),
        "rp_id": "shop.example",
    }
    assert details(server, phone.id, "login_answered")[-1] == told
    assert details(server, phone.id, "login_confirmed")[-1] == told
    assert details(server, phone.id, "login_confirmed")[0]["kind"] == "create"


def test_a_wrong_face_is_answered_and_never_confirmed(phone: Phone, server: Server) -> None:
    """The server does not know that it was wrong, and says no more than it knows."""
    with pytest.raises(NoMatch):
        phone.get(STRANGER)

    assert [each["ot_index"] for each in details(server, phone.id, "login_answered")] == [1, 2]
    assert [each["ot_index"] for each in details(server, phone.id, "login_confirmed")] == [1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"bent_column": 0}, "ot_proof_failed"), ({"sign_count": 1}, "bad_authenticator_data")],
)
def test_a_refused_attempt_that_counts_leaves_its_reason(
    phone: Phone, server: Server, changes: dict[str, Any], reason: str
) -> None:
    server.serve(crafted_login(phone, **({"ot_index": 2, "sign_count": 2} | changes)))

    (told,) = details(server, phone.id, "attempt_failed")
    assert (told["reason"], told["ot_index"], told["rp_id"]) == (reason, 2, "shop.example")


def test_an_attempt_that_counts_nothing_leaves_nothing(phone: Phone, server: Server) -> None:
    """Events are bounded by the attempt limits; a refusal that costs nothing must cost no row either."""
    before = len(all_events(server))
    for _ in range(5):
        assert server.serve(crafted_login(phone, ot_index=1, sign_count=9)).code == "stale_index"

    assert len(all_events(server)) == before


def test_no_event_holds_a_secret_a_label_or_a_score(phone: Phone, server: Server) -> None:
    """What is chained can never be taken out again."""
    phone.get()
    assert phone.confirm()
    with pytest.raises(NoMatch):
        phone.get(STRANGER)
    assert server.serve(crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)).code == "quarantined"
    code = server.lift(phone.id)
    phone.device.recover(code)
    phone.get(FACE)
    assert phone.confirm()
    rows = all_events(server)
    assert {row.name for row in rows} >= {
        "login_confirmed",
        "attempt_failed",
        "quarantined",
        "recovered",
        "code_issued",
    }

    known = {"ot_index", "epoch", "kind", "credential_id", "rp_id", "reason", "code_id", "lifetime_s"}
    known |= {"from", "by"}
    for row in rows:
        told = json.loads(row.detail)
        assert set(told) <= known, row.name
        for name, value in told.items():
            if name not in ("credential_id", "rp_id"):
                assert isinstance(value, int | None) or re.fullmatch(r"[a-z_0-9]{1,64}|command line", value), (
                    row.name,
                    name,
                )
    everything = "".join(row.detail for row in rows)
    assert "Ada" not in everything and "distance" not in everything
    secrets = [code, code.replace("-", ""), phone.state.request_key.hex(), phone.state.template.to_bytes().hex()]
    assert not any(secret in everything for secret in secrets)


def test_the_limits_bound_what_a_device_can_write(folder: Path, clock: Clock, phone: Phone) -> None:
    worker = Server(folder, clock, policy(limits=replace(NO_LIMITS, attempts_per_day=4)))
    before = len(all_events(worker))
    for at in range(2, 20):
        worker.serve(crafted_login(phone, ot_index=at, sign_count=at))

    assert len(all_events(worker)) - before == 3
    worker.close()
