"""A short run with everything killed at least once, and proof that the checks of `make soak` see what they look for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlalchemy.engine import URL

from authsvc.store.engine import Store
from authsvc.store.sqlite import sqlite_url
from authsvc.store.tables import enrolments, events, logins
from benchmarks.databases import new_database, postgresql_is_reachable
from benchmarks.load_server import enrolment_codes, serving
from tests.soak.soak_checks import Findings, findings
from tests.soak.soak_device import RECORD_NAME, Record, enrol_and_register, log_in_once, read_record

ROOT = Path(__file__).parents[2]
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc: Linux only")
BACKENDS = ["sqlite", "postgresql"] if postgresql_is_reachable() else ["sqlite"]


@LINUX_ONLY
@pytest.mark.parametrize("backend", BACKENDS)
def test_whoever_is_killed_nothing_that_counts_is_lost(tmp_path: Path, backend: str) -> None:
    """A killed worker, device or connection must strand no user, reuse no index and lose no attempt or audit event."""
    written = tmp_path / "out.json"
    size = ["--logins=30", "--devices=5", "--think-s=0.05", f"--backend={backend}"]

    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", *size, f"--json={written}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    [row] = json.loads(written.read_text())["rows"]
    assert row["ok"] and row["logins"] >= 30 and row["confirmed"] >= row["logins"]
    names = ("stranded", "index_reused", "uncounted", "audit_missing", "quarantined")
    assert {name: row[name] for name in names} == dict.fromkeys(names, 0)
    kinds = {"devices", "workers"} | ({"connections"} if backend == "postgresql" else set())
    assert set(row["kills_of"]) == kinds and all(row["kills_of"].values())


@pytest.fixture(scope="module")
def after_two_logins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, URL]:
    """(a device's folder, the database of its server): a registration and two logins, all confirmed."""
    folder = tmp_path_factory.mktemp("soak")
    device = folder / "device"
    device.mkdir()
    with new_database("sqlite", folder) as url, serving(folder / "server", url, 1) as server:
        [code] = enrolment_codes(folder / "server", url, 1)
        enrol_and_register(str(device), server.url, 1, code)
        for _ in range(2):
            log_in_once(str(device), server.url, 1)
    return device, sqlite_url(folder / "authsvc.db")


class Scene:
    """A copy that a test may spoil."""

    def __init__(self, device: Path, url: URL, here: Path) -> None:
        self.device, self.url = here / "device", sqlite_url(here / "server.db")
        self.device.mkdir()
        for path in device.iterdir():
            (self.device / path.name).write_bytes(path.read_bytes())
        source, copied = Store(url), self.url.database
        with source.engine.connect() as connection:
            connection.exec_driver_sql("VACUUM INTO ?", (copied,))
        source.close()

    def change(self, statement: Any) -> None:
        store = Store(self.url)
        with store.write() as conn:
            conn.execute(statement)
        store.close()

    def found(self) -> Findings:
        return findings(self.url.render_as_string(), [self.device])

    def last(self, what: str) -> dict[str, Any]:
        return [line for line in read_record(self.device) if line["what"] == what][-1]


@pytest.fixture
def scene(after_two_logins: tuple[Path, URL], tmp_path: Path) -> Iterator[Scene]:
    yield Scene(*after_two_logins, tmp_path)


HONEST = Findings(released=2, confirmed=2, index_reused=0, uncounted=0, audit_missing=0, quarantined=0)


def test_an_undisturbed_run_has_nothing_to_find(scene: Scene) -> None:
    assert scene.found() == HONEST


def test_an_index_with_two_messages_is_found(scene: Scene) -> None:
    """Two probes under one index share their one-time pads: the server could subtract them."""
    sent = scene.last("sent")
    Record(scene.device).note("sent", index=sent["index"], request="00" * 32, nonce="00" * 32)
    assert scene.found().index_reused == 1


def test_a_row_of_a_message_that_nobody_sent_is_found(scene: Scene) -> None:
    scene.change(update(logins).where(logins.c.ot_index == 3).values(request_hash=bytes(32)))
    found = scene.found()
    assert (found.index_reused, found.uncounted) == (1, 1)


def test_an_answered_message_without_its_row_is_found(scene: Scene) -> None:
    """An attempt that was answered and is not counted is a free guess."""
    scene.change(delete(logins).where(logins.c.ot_index == 3))
    assert scene.found().uncounted >= 1


def test_a_counter_that_lost_an_attempt_is_found(scene: Scene) -> None:
    scene.change(update(enrolments).values(template_attempts=enrolments.c.template_attempts - 1))
    assert scene.found().uncounted == 1


def test_a_released_login_that_was_never_confirmed_is_found(scene: Scene) -> None:
    scene.change(update(logins).where(logins.c.ot_index == 3).values(state="void"))
    found = scene.found()
    assert (found.confirmed, found.uncounted) == (1, 1)


def test_a_confirmed_login_that_the_audit_log_does_not_tell_is_found(scene: Scene) -> None:
    scene.change(delete(events).where(events.c.id.in_([events_of_last_confirmation(scene)])))
    assert scene.found().audit_missing == 1


def test_an_enrolment_out_of_service_is_found(scene: Scene) -> None:
    scene.change(update(enrolments).values(status="quarantined"))
    assert scene.found().quarantined == 1


def test_a_record_holds_what_was_sent_before_the_process_can_be_killed(tmp_path: Path) -> None:
    """Were a line kept in a buffer, a killed device would have sent what nobody knows of."""
    writes = "from pathlib import Path; from tests.soak.soak_device import Record; import os, signal"
    then = f"Record(Path({str(tmp_path)!r})).note('sent', index=1); os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", f"{writes}; {then}"], cwd=ROOT, check=False)
    assert done.returncode < 0
    assert (tmp_path / RECORD_NAME).exists() and read_record(tmp_path) == [{"what": "sent", "index": 1}]


def events_of_last_confirmation(scene: Scene) -> int:
    store = Store(scene.url)
    with store.read() as conn:
        rows = conn.execute(events.select().where(events.c.name == "login_confirmed").order_by(events.c.id)).all()
    store.close()
    return int(rows[-1].id)
