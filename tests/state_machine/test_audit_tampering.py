"""Somebody who can write the database alters the audit log in every way, and verification says so, in words.

He holds everything but the key-encryption key: rows, heads and indexes are his, and he can compute every hash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError, ProgrammingError
from state_machine_databases import copy_database, snapshot
from state_machine_harness import FACE, STRANGER, Clock, Phone, Server, copy_vault

from authsvc.services import checkpoints as checkpoint_writing
from authsvc.services.audit_verification import Report, verify_log
from authsvc.services.checkpoint_document import SignedCheckpoint
from authsvc.services.checkpoints import AuditLogAltered, write_checkpoint
from authsvc.store.checkpoints import latest_checkpoint
from authsvc.store.event_search import EventFilter, search_events
from authsvc.store.events import EventRow, append_event, events_after, server_head
from authsvc.store.server_state import load_state
from device_sdk.errors import NoMatch
from mpc.errors import DecodeError
from mpc.login.history import NO_HASH, event_hash


class Tampered:
    """A log with three checkpoints and some events after the last, in the hands of the tamperer."""

    def __init__(self, server: Server, owner: bytes, documents: list[bytes]) -> None:
        self.server, self.owner, self.documents = server, owner, documents

    def sql(self, statement: str, **values: Any) -> None:
        with self.server.store.write() as conn:
            conn.execute(text(statement), values)

    def events(self) -> list[EventRow]:
        """The enrolment's own, oldest first."""
        with self.server.store.read() as conn:
            return events_after(conn, self.owner, 0, limit=1000)

    def covered(self) -> list[EventRow]:
        """Those that a checkpoint has signed."""
        with self.server.store.read() as conn:
            latest = latest_checkpoint(conn)
        assert latest is not None
        return [event for event in self.events() if event.id <= latest.last_event_id]

    def chained_anew(self) -> None:
        """Every hash of the enrolment's chain and its head, as they would be had the log always been like this."""
        digest, seq = NO_HASH, 0
        for seq, row in enumerate(self.events(), start=1):
            digest = event_hash(digest, seq, row.at, self.owner, row.name, row.detail)
            self.sql("UPDATE events SET seq = :seq, hash = :digest WHERE id = :id", seq=seq, digest=digest, id=row.id)
        self.sql(
            "UPDATE enrolments SET audit_seq = :seq, audit_hash = :digest WHERE id = :id",
            seq=seq,
            digest=digest,
            id=self.owner,
        )

    def verify(self, kept: bytes | None = None) -> Report:
        return verify_log(self.server.ctx, kept=kept)

    def kinds(self, kept: bytes | None = None) -> set[str]:
        return {finding.kind for finding in self.verify(kept).findings}


def written(server: Server, phone: Phone) -> list[bytes]:
    """The documents of the three checkpoints."""
    documents: list[bytes] = []
    for face in (FACE, STRANGER, FACE):
        try:
            phone.get(face)
            phone.confirm()
        except NoMatch:
            pass
        with server.store.write() as conn:
            append_event(conn, at=server.clock(), name="code_issued", detail={"code": "0011"})
        row = write_checkpoint(server.ctx)
        assert row is not None
        documents.append(row.document)
        server.clock.advance(10)
    phone.get()
    phone.confirm()
    with server.store.write() as conn:
        append_event(conn, at=server.clock(), name="code_issued", detail={"code": "2233"})
        for name in ("ix_events_chain", "ix_events_server_chain"):
            conn.execute(text(f"DROP INDEX {name}"))
    return documents


@dataclass(frozen=True)
class Written:
    """The folder of a database with such a log, which every test gets a copy of."""

    folder: Path
    owner: bytes
    documents: list[bytes]
    until: float


@pytest.fixture(scope="module")
def written_once(enrolled_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder, clock = tmp_path_factory.mktemp("written"), Clock()
    copy_database(enrolled_folder, folder)
    worker = Server(folder, clock)
    phone = Phone(copy_vault(enrolled_folder, folder / "phone"), worker)
    documents = written(worker, phone)
    phone.crash()
    worker.store.close()
    return Written(folder, phone.id, documents, clock())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def log(folder: Path, clock: Clock, written_once: Written) -> Iterator[Tampered]:
    copy_database(written_once.folder, folder)
    clock.now = written_once.until
    worker = Server(folder, clock)
    assert write_checkpoint(worker.ctx, unless_within_s=1e9) is None  # it knows now which checkpoint is the last
    yield Tampered(worker, written_once.owner, list(written_once.documents))
    worker.store.close()


def test_an_untouched_log_is_whole(log: Tampered) -> None:
    """A verification that always complains is switched off."""
    report = log.verify()

    assert report.ok and report.first is None and report.findings == []
    assert (report.checkpoints, report.chains) == (3, 2)
    assert 0 < report.covered < report.events
    assert log.verify(log.documents[1]).ok


# ---- single rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 3, -1], ids=["first", "middle", "last"])
def test_a_deleted_event_is_missed(log: Tampered, which: int) -> None:
    event = log.events()[which]
    log.sql("DELETE FROM events WHERE id = :id", id=event.id)

    report = log.verify()

    kinds = {finding.kind for finding in report.findings}
    assert kinds >= ({"chain_cut"} if which == -1 else {"events_missing", "checkpoint_contradicted"})
    assert report.first is not None and log.owner.hex() in report.findings[0].text
    assert re.search(rf"\b{event.seq}\b", report.findings[0].text)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", 1.0),
        ("name", "recovered"),
        ("detail", '{"rp_id":"other.example"}'),
        ("hash", b"\x07" * 32),
        ("hash", b""),
        ("seq", 99),
        ("seq", -1),
        ("enrolment_id", None),
        ("enrolment_id", b"\x07" * 16),
    ],
)
@pytest.mark.parametrize("which", [0, 3, -1], ids=["first", "middle", "last"])
def test_every_changed_column_is_noticed(log: Tampered, column: str, value: Any, which: int) -> None:
    event = log.events()[which]
    log.sql(f"UPDATE events SET {column} = :value WHERE id = :id", value=value, id=event.id)

    report = log.verify()

    assert not report.ok
    assert report.first is not None and report.first.text


@pytest.mark.parametrize("which", [0, 3, -1], ids=["first", "middle", "last"])
def test_one_changed_event_accuses_no_other(log: Tampered, which: int) -> None:
    """Whoever has to find out what happened needs the place, not a list of everything after it."""
    event = log.events()[which]
    log.sql("UPDATE events SET name = 'recovered' WHERE id = :id", id=event.id)

    report = log.verify()

    (finding,) = report.findings
    assert (finding.kind, finding.event_id, finding.seq) == ("event_changed", event.id, event.seq)
    assert report.first == finding and f"event {event.seq} (id {event.id})" in finding.text


def test_all_broken_places_are_named(log: Tampered) -> None:
    first, second = log.events()[1], log.events()[4]
    for event in (second, first):
        log.sql("UPDATE events SET at = at + 1 WHERE id = :id", id=event.id)

    report = log.verify()

    assert [finding.event_id for finding in report.findings] == [first.id, second.id]
    assert report.first is not None and report.first.event_id == first.id


def test_an_event_of_the_server_that_is_changed_or_deleted_is_noticed(log: Tampered) -> None:
    with log.server.store.read() as conn:
        issued = [
            event
            for event in search_events(conn, EventFilter(name="code_issued"), limit=100)
            if event.enrolment_id is None
        ]
    log.sql("UPDATE events SET detail = '{}' WHERE id = :id", id=issued[1].id)
    log.sql("DELETE FROM events WHERE id = :id", id=issued[0].id)

    assert {"event_changed", "chain_cut"} <= log.kinds()
    assert "the server's own chain" in log.verify().findings[0].text


def inserted(log: Tampered, event_id: int, seq: int, previous: bytes) -> bytes:
    """A well-formed event with the hash that it should have there."""
    detail = json.dumps({"reason": "nothing"})
    digest = event_hash(previous, seq, 5.0, log.owner, "attempt_failed", detail)
    log.sql(
        "INSERT INTO events (id, at, enrolment_id, name, detail, seq, hash)"
        " VALUES (:id, 5.0, :owner, 'attempt_failed', :detail, :seq, :digest)",
        id=event_id,
        owner=log.owner,
        detail=detail,
        seq=seq,
        digest=digest,
    )
    return digest


def test_an_inserted_event_is_noticed_wherever_it_stands(log: Tampered) -> None:
    events = log.events()
    for seq, previous in ((1, NO_HASH), (3, events[1].hash), (events[-1].seq + 1, events[-1].hash)):
        inserted(log, 10_000 + seq, seq, previous)
        report = log.verify()
        assert not report.ok
        assert {finding.event_id for finding in report.findings} & {10_000 + seq}
        log.sql("DELETE FROM events WHERE id >= 10000")
    assert log.verify().ok


def test_two_swapped_events_are_noticed(log: Tampered) -> None:
    """Contents swapped with everything they say of themselves, or ids alone."""
    one, other = log.events()[2], log.events()[3]
    for columns in (("at", "name", "detail", "seq", "hash"), ("id",)):
        _swap(log, one, other, columns)
        assert "checkpoint_contradicted" in log.kinds() and "event_out_of_order" in log.kinds()
        _swap(log, one, other, columns)
        assert log.verify().ok


def _swap(log: Tampered, one: EventRow, other: EventRow, columns: tuple[str, ...]) -> None:
    if columns == ("id",):
        for old, new in ((one.id, 10**6), (other.id, one.id), (10**6, other.id)):
            log.sql("UPDATE events SET id = :new WHERE id = :old", old=old, new=new)
        return
    with log.server.store.read() as conn:
        rows = {row.id: row for row in search_events(conn, EventFilter(), limit=1000)}
    for here, there in ((one.id, other.id), (other.id, one.id)):
        setting = ", ".join(f"{column} = :{column}" for column in columns)
        log.sql(
            f"UPDATE events SET {setting} WHERE id = :here",
            here=here,
            **{column: getattr(rows[there], column) for column in columns},
        )


def test_renumbered_events_are_noticed(log: Tampered) -> None:
    log.sql("UPDATE events SET seq = seq + 1 WHERE enrolment_id = :owner", owner=log.owner)
    assert {"events_missing", "chain_cut"} <= log.kinds()


# ---- what a chain alone cannot tell --------------------------------------------------------------


@pytest.mark.parametrize("what", ["changed", "deleted", "inserted", "moved to the server"])
def test_a_signed_part_that_is_chained_anew_contradicts_its_checkpoint(log: Tampered, what: str) -> None:
    """Every hash and every head is right again; what was signed tells."""
    victim = log.covered()[2]
    if what == "changed":
        log.sql("UPDATE events SET detail = '{}', name = 'recovered' WHERE id = :id", id=victim.id)
    elif what == "deleted":
        log.sql("DELETE FROM events WHERE id = :id", id=victim.id)
    elif what == "inserted":
        log.sql("UPDATE events SET seq = seq + 1 WHERE enrolment_id = :o AND seq > :s", o=log.owner, s=victim.seq)
        log.sql("UPDATE events SET id = id + 1000 WHERE id > :id AND enrolment_id = :o", id=victim.id, o=log.owner)
        inserted(log, victim.id + 1000, victim.seq + 1, victim.hash)
    else:
        log.sql("UPDATE events SET enrolment_id = NULL, seq = 1000 WHERE id = :id", id=victim.id)
    log.chained_anew()

    assert "checkpoint_contradicted" in log.kinds()


def test_a_tail_that_nobody_signed_yet_can_be_chained_anew(log: Tampered) -> None:
    """Told in SECURITY.md: this is what the interval between checkpoints is short for."""
    last = log.events()[-1]
    assert last.id > log.covered()[-1].id
    log.sql("DELETE FROM events WHERE id = :id", id=last.id)
    log.chained_anew()

    assert log.verify().ok


def test_the_cut_end_of_a_chain_is_noticed_by_its_head(log: Tampered) -> None:
    last = log.events()[-1]
    log.sql("DELETE FROM events WHERE id = :id", id=last.id)

    (finding,) = log.verify().findings

    assert finding.kind == "chain_cut" and f"but {last.seq} were written" in finding.text


def test_a_head_that_was_moved_is_noticed(log: Tampered) -> None:
    for change in ("audit_seq = audit_seq + 1", "audit_seq = audit_seq - 1", "audit_hash = :nothing"):
        with log.server.store.read() as conn:
            head = conn.execute(text("SELECT audit_seq, audit_hash FROM enrolments")).one()
        values = {"nothing": bytes(32)} if ":nothing" in change else {}
        log.sql(f"UPDATE enrolments SET {change}", **values)
        assert log.kinds() == {"chain_cut"}
        log.sql("UPDATE enrolments SET audit_seq = :seq, audit_hash = :digest", seq=head[0], digest=head[1])
    assert log.verify().ok


# ---- enrolments that are gone --------------------------------------------------------------------


def without_its_row(log: Tampered) -> None:
    for table, column in (("logins", "enrolment_id"), ("credentials", "enrolment_id"), ("enrolments", "id")):
        log.sql(f"DELETE FROM {table} WHERE {column} = :owner", owner=log.owner)


def test_the_events_of_an_erased_enrolment_stay_and_verify(log: Tampered) -> None:
    with log.server.store.write() as conn:
        append_event(conn, at=5.0, name="enrolment_erased", enrolment_id=log.owner)
    without_its_row(log)

    assert log.verify().ok


def test_an_enrolment_that_vanished_without_an_erasure_is_noticed(log: Tampered) -> None:
    without_its_row(log)

    (finding,) = log.verify().findings

    assert finding.kind == "chain_without_enrolment" and log.owner.hex() in finding.text


def test_nothing_follows_an_erasure(log: Tampered) -> None:
    with log.server.store.write() as conn:
        append_event(conn, at=5.0, name="enrolment_erased", enrolment_id=log.owner)
        append_event(conn, at=6.0, name="login_confirmed", enrolment_id=log.owner)

    assert "event_after_erasure" in log.kinds()


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("DELETE FROM audit_checkpoints WHERE number = 1", {"checkpoint_missing"}),
        ("DELETE FROM audit_checkpoints WHERE number = 2", {"checkpoint_missing"}),
        ("DELETE FROM audit_checkpoints WHERE number = 3", {"checkpoint_missing"}),
        ("DELETE FROM audit_checkpoints", {"checkpoint_missing"}),
        (
            "UPDATE audit_checkpoints SET last_event_id = last_event_id + 1 WHERE number = 3",
            {"checkpoint_out_of_order"},
        ),
        ("UPDATE audit_checkpoints SET at = at + 1 WHERE number = 2", {"checkpoint_out_of_order"}),
        ("UPDATE audit_checkpoints SET number = number + 1 WHERE number = 3", {"checkpoint_missing"}),
        (
            "UPDATE audit_checkpoints SET document = (SELECT document FROM audit_checkpoints WHERE number = 1)"
            " WHERE number = 2",
            {"checkpoint_out_of_order"},
        ),
        ("DELETE FROM server_state WHERE name = 'audit_head'", {"checkpoint_key_missing"}),
        ("DELETE FROM server_state WHERE name = 'audit_key'", {"checkpoint_key_missing"}),
        (
            "UPDATE server_state SET value = (SELECT value FROM server_state WHERE name = 'audit_key')"
            " WHERE name = 'audit_head'",
            {"checkpoint_key_missing"},
        ),
    ],
)
def test_checkpoints_that_are_removed_altered_or_moved_are_noticed(
    log: Tampered, statement: str, expected: set[str]
) -> None:
    log.sql(statement)

    assert log.kinds() >= expected


def test_every_altered_byte_of_a_checkpoint_is_noticed(log: Tampered) -> None:
    document = log.documents[1]
    altered = [at for at in range(0, len(document), 7) if document[at : at + 1] not in b" \n"]
    for at in altered:
        changed = document[:at] + bytes([document[at] ^ 1]) + document[at + 1 :]
        log.sql("UPDATE audit_checkpoints SET document = :d WHERE number = 2", d=changed)
        assert log.kinds() & {"checkpoint_unreadable", "checkpoint_out_of_order", "checkpoint_of_other_key"}, at


def test_swapped_checkpoints_are_noticed(log: Tampered) -> None:
    for old, new in ((1, 100), (2, 1), (100, 2)):
        log.sql("UPDATE audit_checkpoints SET number = :new WHERE number = :old", old=old, new=new)

    assert "checkpoint_out_of_order" in log.kinds()


def test_checkpoints_signed_by_somebody_else_are_noticed(folder: Path, log: Tampered) -> None:
    """He deletes key, head, marker and checkpoints, and lets a server that has just started sign what he likes."""
    log.sql("DELETE FROM audit_checkpoints")
    log.sql("DELETE FROM server_state WHERE name IN ('audit_key', 'audit_head', 'audit_begun')")
    with pytest.raises(AuditLogAltered):
        write_checkpoint(log.server.ctx)
    restarted = Server(folder, log.server.clock)
    write_checkpoint(restarted.ctx)
    restarted.store.close()

    assert log.verify().ok, "without the key or a checkpoint kept elsewhere this is a fresh log"
    kept = SignedCheckpoint.decode(log.documents[2])
    with pytest.raises(DecodeError, match="and not with this server's"):
        log.verify(log.documents[2])
    report = verify_log(log.server.ctx, kept=log.documents[2], public_key=kept.signing_key)
    assert {finding.kind for finding in report.findings} >= {"checkpoint_of_other_key", "rolled_back"}


# ---- what the server itself signs ----------------------------------------------------------------


@pytest.mark.parametrize("numbers", ["number >= 1", "number >= 2", "number = 3"])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_log_that_was_written_anew_is_not_signed(
    folder: Path, log: Tampered, capsys: pytest.CaptureFixture[str], numbers: str, restarted: bool
) -> None:
    """He drops checkpoints, rewrites their events with every hash right, and waits for the server to vouch for it."""
    victim = log.covered()[-1]
    log.sql(f"DELETE FROM audit_checkpoints WHERE {numbers}")
    log.sql("UPDATE events SET name = 'recovered', detail = '{}' WHERE id = :id", id=victim.id)
    log.chained_anew()
    worker = Server(folder, log.server.clock) if restarted else log.server

    for _ in range(2):
        with pytest.raises(AuditLogAltered):
            write_checkpoint(worker.ctx)

    assert "audit_log_altered" in "".join(capsys.readouterr())
    assert "checkpoint_missing" in log.kinds()
    if restarted:
        worker.store.close()


def test_checkpoints_dropped_while_the_events_are_read_are_noticed_before_the_next_is_written(
    log: Tampered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two transactions have time between them."""
    honest = checkpoint_writing._digest

    def dropped(*arguments: Any) -> Any:
        log.sql("DELETE FROM audit_checkpoints")
        return honest(*arguments)

    monkeypatch.setattr(checkpoint_writing, "_digest", dropped)

    with pytest.raises(AuditLogAltered):
        write_checkpoint(log.server.ctx)

    with log.server.store.read() as conn:
        assert latest_checkpoint(conn) is None


def test_a_head_of_before_is_not_taken_by_a_process_that_has_seen_a_later_one(folder: Path, log: Tampered) -> None:
    """He kept an older sealed head. Only a process that has just started believes it, as SECURITY.md tells."""
    with log.server.store.read() as conn:
        kept = load_state(conn, "audit_head")
    assert write_checkpoint(log.server.ctx) is not None
    log.sql("DELETE FROM audit_checkpoints WHERE number = 4")
    log.sql("UPDATE server_state SET value = :kept WHERE name = 'audit_head'", kept=kept)
    log.sql("UPDATE events SET name = 'recovered' WHERE id = :id", id=log.events()[-1].id)
    log.chained_anew()

    with pytest.raises(AuditLogAltered):
        write_checkpoint(log.server.ctx)

    restarted = Server(folder, log.server.clock)
    assert write_checkpoint(restarted.ctx) is not None
    restarted.store.close()


def test_an_older_copy_of_the_database_is_noticed_by_a_checkpoint_kept_elsewhere(
    enrolled_folder: Path, folder: Path, clock: Clock
) -> None:
    """Everything in the copy is genuine; only what was taken out of the house tells."""
    copy_database(enrolled_folder, folder)
    worker = Server(folder, clock)
    write_checkpoint(worker.ctx)
    worker.close()
    restore = snapshot(folder)
    worker = Server(folder, clock)
    phone = Phone(copy_vault(enrolled_folder, folder / "phone"), worker)
    phone.get()
    assert phone.confirm()
    later = write_checkpoint(worker.ctx)
    assert later is not None
    phone.crash()
    worker.close()

    restore()

    worker = Server(folder, clock)
    assert verify_log(worker.ctx).ok
    (finding,) = verify_log(worker.ctx, kept=later.document).findings
    assert finding.kind == "rolled_back"

    # The log goes on from there, and grows beyond the kept checkpoint.
    for _ in range(2):
        with worker.store.write() as conn:
            append_event(conn, at=clock(), name="code_issued")
        assert write_checkpoint(worker.ctx) is not None
    (finding,) = verify_log(worker.ctx, kept=later.document).findings
    assert finding.kind == "rewritten"
    worker.store.close()


def test_the_kept_file_must_be_a_checkpoint(log: Tampered) -> None:
    for content in (b"", b"{}", log.documents[0].replace(b'"number": 1', b'"number": 2')):
        with pytest.raises(DecodeError):
            log.verify(content)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET hash = 'text' WHERE id = 2",
        "UPDATE events SET hash = 5 WHERE id = 2",
        "UPDATE events SET seq = 'text' WHERE id = 2",
        "UPDATE events SET at = 'text' WHERE id = 2",
        "UPDATE events SET name = x'ff' WHERE id = 2",
        "UPDATE events SET enrolment_id = 'text' WHERE id = 2",
        "UPDATE events SET enrolment_id = 5 WHERE id = 2",
        "UPDATE enrolments SET audit_seq = 'text'",
        "UPDATE enrolments SET audit_hash = 'text'",
        "UPDATE audit_checkpoints SET document = 'text' WHERE number = 2",
        "UPDATE server_state SET value = 'text' WHERE name = 'audit_head'",
        "UPDATE server_state SET value = x'00' WHERE name = 'audit_chain'",
    ],
)
def test_values_of_another_type_are_noticed_and_stop_nothing(log: Tampered, statement: str) -> None:
    """SQLite takes any type in any column; a verification that crashes there tells nothing of the rest."""
    try:
        log.sql(statement)
    except (DataError, ProgrammingError):  # PostgreSQL refuses most of them itself
        assert log.server.store.engine.dialect.name == "postgresql"
        return

    assert not log.verify().ok


def test_the_head_of_the_server_is_what_its_last_event_says(log: Tampered) -> None:
    with log.server.store.read() as conn:
        last = next(
            event
            for event in search_events(conn, EventFilter(name="code_issued"), limit=100)
            if event.enrolment_id is None
        )
        assert server_head(conn) == {"audit_seq": last.seq, "audit_hash": last.hash}
