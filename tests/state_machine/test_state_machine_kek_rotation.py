"""The key-encryption key changes under a server at work; what is under the old one afterwards is refused."""

from __future__ import annotations

import secrets
import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from state_machine_databases import assert_sound
from state_machine_harness import KEK, LOGINS, Clock, Phone, Server
from state_machine_processes import enrol, run_rotation

from authsvc.key_port.port import KeyUnavailable, check_usable
from authsvc.key_port.raw_key import RawKeyWrapper
from authsvc.sealing import SERVER_OWNER, SealingError
from authsvc.services import administration
from authsvc.services.kek_adoption import WrongKek
from authsvc.services.kek_rotation import RotationRefused, rotate_kek
from authsvc.services.readiness import readiness
from authsvc.store import migrate
from authsvc.store.data_keys import (
    DataKeyRow,
    delete_data_key,
    insert_data_keys,
    kek_status,
    load_data_key,
    set_kek_status,
)
from device_sdk.errors import TandemError
from mpc.primitives.rng import SystemRng

NEW = bytes(range(32, 64))
OLD_WRAPPER, NEW_WRAPPER = RawKeyWrapper(KEK), RawKeyWrapper(NEW)


@pytest.fixture
def moving(folder: Path, clock: Clock, server: Server) -> Any:
    """A server restarted with both keys, in front of the rotation."""
    both = Server(folder, clock, keks=[NEW_WRAPPER, OLD_WRAPPER])
    yield both
    both.close()


def keys_by_kek(server: Server) -> dict[bytes, set[bytes]]:
    """Owners by the KEK that their data key is under."""
    found: dict[bytes, set[bytes]] = {}
    for owner, kek_id, _ in server.dump()["data_keys"]:
        found.setdefault(bytes(kek_id), set()).add(bytes(owner))
    return found


def row_of(server: Server, owner: bytes) -> DataKeyRow:
    with server.store.read() as conn:
        found = load_data_key(conn, owner)
    assert found is not None
    return found[0]


def put(server: Server, row: DataKeyRow) -> None:
    """As somebody with write access to the database would."""
    with server.store.write() as conn:
        delete_data_key(conn, row.owner_id)
        insert_data_keys(conn, [row])


def more_owners(server: Server, number: int) -> list[bytes]:
    owners = [secrets.token_bytes(16) for _ in range(number)]
    with server.store.write() as conn:
        for owner in owners:
            server.ctx.keyring.insert(
                conn, server.ctx.keyring.new_key(SystemRng(), owner, server.ctx.keyring.current(conn))
            )
    return owners


def restarted(server: Server, *keks: RawKeyWrapper) -> Server:
    """A server over the same database with nothing in memory."""
    return Server(server.path.parent, server.clock, keks=keks)


def assert_nothing_comes_out(phone: Phone, server: Server) -> None:
    before = server.dump()
    phone.network.serve = server.serve
    with pytest.raises(TandemError):
        phone.get()
    answer = phone.network.answers[-1][1]
    assert (answer.status, answer.code) == (500, "internal")
    assert server.dump() == before


class TestRotation:
    def test_people_sign_in_while_every_key_moves(self, phone: Phone, server: Server, moving: Server) -> None:
        """A rotation that needs a pause would not be done after a leak."""
        more_owners(server, 3)
        phone.network.serve = moving.serve
        shares = {name: rows for name, rows in server.dump().items() if name in ("enrolments", "credentials")}
        seen = []

        def progress(done: int, total: int) -> None:
            seen.append((done, total))
            assert phone.get() > 0 and phone.confirm()

        done = rotate_kek(moving.ctx, batch=1, progress=progress)

        owners = sum(map(len, keys_by_kek(moving).values()))
        assert done.rewrapped == owners == 5 and done.retired == (OLD_WRAPPER.key_id,) and not done.unreadable
        assert seen[0] == (0, owners) and seen[-1] == (owners, owners)
        assert set(keys_by_kek(moving)) == {NEW_WRAPPER.key_id}
        assert shares["enrolments"] != server.dump()["enrolments"], "logins did go on"
        alone = restarted(moving, NEW_WRAPPER)
        phone.network.serve = alone.serve
        assert phone.get() > 0 and phone.confirm()
        alone.close()

    def test_no_sealed_column_is_touched(self, phone: Phone, server: Server, moving: Server) -> None:
        """It is what makes a rotation short, however many shares there are."""
        phone.get()
        before = server.dump()
        rotate_kek(moving.ctx)
        after = server.dump()
        for table in ("enrolments", "credentials", "logins", "recipients", "server_state"):
            assert after[table] == before[table]

    def test_nothing_is_wrapped_under_the_old_key_once_it_has_begun(
        self, folder: Path, tmp_path: Path, server: Server, moving: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Or a server that was forgotten would go on making rows for the thief of the old key."""
        code = administration.issue_code(server.ctx, label="Eve").code
        late = server.ctx.keyring.new_key(SystemRng(), b"l" * 16, OLD_WRAPPER.key_id)

        class Stop(Exception):
            pass

        def stop(done: int, total: int) -> None:
            raise Stop

        with pytest.raises(Stop):
            rotate_kek(moving.ctx, progress=stop)  # begun, and not one row has moved
        before = server.dump()
        with pytest.raises(TandemError):
            enrol(_folder(tmp_path / "refused"), server, code)
        with pytest.raises(KeyUnavailable) as raised, server.store.write() as conn:
            server.ctx.keyring.insert(conn, late)
        assert raised.value.fault == "not_held"
        assert server.dump() == before
        enrol(_folder(tmp_path / "taken"), moving, code)
        assert len(keys_by_kek(moving)[NEW_WRAPPER.key_id]) == 1

    def test_before_it_begins_new_keys_stay_readable_for_servers_not_yet_restarted(
        self, tmp_path: Path, server: Server, moving: Server
    ) -> None:
        """During the rolling restart both kinds of servers serve the same people."""
        enrol(_folder(tmp_path / "phone 2"), moving, administration.issue_code(server.ctx, label="Eve").code)
        assert set(keys_by_kek(server)) == {OLD_WRAPPER.key_id}

    def test_an_old_server_opens_what_it_can_and_says_that_it_is_not_ready(
        self, phone: Phone, server: Server, moving: Server
    ) -> None:
        assert phone.get() > 0
        rotate_kek(moving.ctx)
        assert phone.get() > 0, "its key is in memory"
        fresh = more_owners(moving, 1)[0]
        with pytest.raises(KeyUnavailable) as raised:
            server.ctx.data_key(fresh)
        assert raised.value.fault == "not_held"
        checks = readiness(server.ctx, migrate.head_revision())
        assert checks == {"database": True, "migrations": True, "key_port": False}
        assert all(readiness(moving.ctx, migrate.head_revision()).values())

    def test_killed_anywhere_it_goes_on_and_people_sign_in_between(
        self, folder: Path, clock: Clock, phone: Phone, server: Server, moving: Server
    ) -> None:
        """SIGKILL before, inside and after each of its writes, again and again until it is through."""
        more_owners(server, 4)
        owners = {bytes(row[0]) for row in server.dump()["data_keys"]}
        killed = 0
        for die_at in count():
            with server.store.read() as conn:
                is_over = kek_status(conn, OLD_WRAPPER.key_id) == "retired"
            if not run_rotation(folder, clock, [NEW] if is_over else [NEW, KEK], die_at):
                break
            killed += 1
            assert_sound(folder)
            assert set().union(*keys_by_kek(server).values()) == owners
            if killed % 2:
                with server.store.read() as conn:
                    is_over = kek_status(conn, OLD_WRAPPER.key_id) == "retired"
                reader = restarted(moving, NEW_WRAPPER, *([] if is_over else [OLD_WRAPPER]))
                phone.network.serve = reader.serve
                assert phone.get() > 0 and phone.confirm()
                reader.close()
        assert killed >= 6
        assert keys_by_kek(server) == {NEW_WRAPPER.key_id: owners}
        with server.store.read() as conn:
            assert kek_status(conn, OLD_WRAPPER.key_id) == "retired"

    def test_done_again_it_does_nothing(self, server: Server, moving: Server) -> None:
        rotate_kek(moving.ctx)
        before = server.dump()
        again = rotate_kek(moving.ctx)
        assert (again.rewrapped, again.retired) == (0, ()) and server.dump() == before

    def test_it_needs_the_key_that_it_takes_rows_from(self, server: Server) -> None:
        with pytest.raises(WrongKek):
            restarted(server, NEW_WRAPPER)
        server.ctx.keyring._wrappers = {NEW_WRAPPER.key_id: NEW_WRAPPER}
        before = server.dump()
        with pytest.raises(RotationRefused, match="kek_previous"):
            rotate_kek(server.ctx)
        assert server.dump() == before

    def test_it_does_not_go_back(self, server: Server, moving: Server) -> None:
        """A host whose settings were forgotten must not carry everything back to the key that leaked."""
        rotate_kek(moving.ctx)
        with pytest.raises(WrongKek, match="not taken any more"):
            restarted(server, OLD_WRAPPER, NEW_WRAPPER)
        server.ctx.keyring._wrappers = {NEW_WRAPPER.key_id: NEW_WRAPPER, OLD_WRAPPER.key_id: OLD_WRAPPER}
        with pytest.raises(RotationRefused, match="does not come back"):
            rotate_kek(server.ctx)

    def test_a_server_with_the_old_key_alone_does_not_start_in_the_middle(self, server: Server, moving: Server) -> None:
        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rotate_kek(moving.ctx, progress=stop)
        with pytest.raises(WrongKek, match="has begun"):
            restarted(server, OLD_WRAPPER)
        third = RawKeyWrapper(bytes(32))
        through = restarted(server, third, NEW_WRAPPER, OLD_WRAPPER)
        assert set(rotate_kek(through.ctx).retired) == {NEW_WRAPPER.key_id, OLD_WRAPPER.key_id}
        through.close()

    def test_a_new_key_that_does_not_work_moves_nothing(self, server: Server) -> None:
        class Broken(RawKeyWrapper):
            def wrap(self, data_key: bytes, context: bytes) -> bytes:
                raise KeyUnavailable("failed", "the key service is down")

        keyring = server.ctx.keyring
        keyring._wrappers = {OLD_WRAPPER.key_id: OLD_WRAPPER, NEW_WRAPPER.key_id: Broken(NEW)}
        before = server.dump()
        with pytest.raises(KeyUnavailable):
            rotate_kek(server.ctx)
        assert server.dump() == before
        check_usable(OLD_WRAPPER)

    @pytest.mark.parametrize("opens_to", [None, bytes(32)])
    def test_an_answer_that_does_not_open_replaces_nothing(
        self, server: Server, moving: Server, opens_to: bytes | None
    ) -> None:
        """The row is the only copy: a key service that answers rubbish would cost people all they have."""

        class Rubbish(RawKeyWrapper):
            def wrap(self, data_key: bytes, context: bytes) -> bytes:
                return bytes(60) if opens_to is None else super().wrap(opens_to, context)

        def from_now_on(done: int, total: int) -> None:
            moving.ctx.keyring._wrappers[NEW_WRAPPER.key_id] = Rubbish(NEW)

        before = server.dump()["data_keys"]
        with pytest.raises(KeyUnavailable) as raised:
            rotate_kek(moving.ctx, progress=from_now_on)
        assert raised.value.fault == "bad_answer" and server.dump()["data_keys"] == before
        with pytest.raises(KeyUnavailable):
            moving.ctx.keyring.new_key(SystemRng(), b"n" * 16, NEW_WRAPPER.key_id)

    def test_a_person_erased_in_the_middle_is_not_brought_back(self, server: Server, moving: Server) -> None:
        """Between reading a row and writing it again lies a key service, and time enough for an operator."""
        gone = more_owners(server, 1)[0]

        class Slow(RawKeyWrapper):
            def wrap(self, data_key: bytes, context: bytes) -> bytes:
                with server.store.write() as conn:
                    delete_data_key(conn, gone)
                return super().wrap(data_key, context)

        moving.ctx.keyring._wrappers = {OLD_WRAPPER.key_id: OLD_WRAPPER, NEW_WRAPPER.key_id: NEW_WRAPPER}
        started: list[tuple[int, int]] = []

        def erase_from_now_on(done: int, total: int) -> None:
            started.append((done, total))
            moving.ctx.keyring._wrappers[NEW_WRAPPER.key_id] = Slow(NEW)

        done = rotate_kek(moving.ctx, progress=erase_from_now_on)
        assert started[0] == (0, 3) and done.rewrapped == 2 and done.retired
        assert gone not in set().union(*keys_by_kek(server).values())


class TestAttacksOnDataKeys:
    def test_the_data_keys_of_two_people_swapped(self, phone: Phone, server: Server) -> None:
        """Whoever can write to the database could have one person's shares sealed for another."""
        other = more_owners(server, 1)[0]
        mine, theirs = row_of(server, phone.id), row_of(server, other)
        put(server, DataKeyRow(phone.id, theirs.kek_id, theirs.wrapped))
        put(server, DataKeyRow(other, mine.kek_id, mine.wrapped))
        reader = restarted(server, OLD_WRAPPER)
        assert_nothing_comes_out(phone, reader)
        reader.close()

    def test_a_retired_key_does_not_stay_in_the_settings(self, phone: Phone, server: Server, moving: Server) -> None:
        """Whoever can write to the database could call it current again, and have rows under it opened."""
        before = row_of(server, phone.id)
        rotate_kek(moving.ctx)
        with pytest.raises(WrongKek, match="take it out of kek_previous"):
            restarted(moving, NEW_WRAPPER, OLD_WRAPPER)
        phone.network.serve = moving.serve
        assert phone.get() > 0 and phone.confirm(), "a server that is running goes on"
        put(server, before)
        with server.store.write() as conn:
            set_kek_status(conn, OLD_WRAPPER.key_id, "leaving", 0.0)
        alone = restarted(moving, NEW_WRAPPER)
        phone.network.serve = alone.serve
        with pytest.raises(TandemError):
            phone.get()
        assert phone.network.answers[-1][1].status == 503
        alone.close()

    def test_a_row_from_before_the_rotation_put_back(self, phone: Phone, server: Server, moving: Server) -> None:
        """The old key leaked: its holder can write a data key of his own choice under it."""
        chosen = OLD_WRAPPER.wrap(b"x" * 32, b"")
        before = row_of(server, phone.id)
        rotate_kek(moving.ctx)
        after = row_of(server, phone.id)
        for old in (before, DataKeyRow(phone.id, OLD_WRAPPER.key_id, chosen)):
            put(server, old)
            reader = restarted(moving, NEW_WRAPPER)
            reader.ctx.keyring._wrappers = dict(moving.ctx.keyring._wrappers)  # not restarted since the rotation
            assert_nothing_comes_out(phone, reader)
            again = rotate_kek(reader.ctx)
            assert again.unreadable == (phone.id,) and again.rewrapped == 0, "and it is not brought back by the way"
            assert row_of(server, phone.id) == old
            reader.close()
        put(server, after)
        phone.network.serve = moving.serve
        assert phone.get() > 0

    def test_a_row_under_a_key_that_nobody_knows(self, phone: Phone, server: Server) -> None:
        """Somebody who writes a KEK of his own into the table has not brought it into the settings."""
        mine = RawKeyWrapper(secrets.token_bytes(32))
        put(server, DataKeyRow(phone.id, mine.key_id, mine.wrap(b"x" * 32, b"")))
        reader = restarted(server, OLD_WRAPPER)
        assert_nothing_comes_out(phone, reader)
        reader.close()

    def test_without_its_data_key_an_enrolment_opens_under_no_key(
        self, phone: Phone, server: Server, moving: Server
    ) -> None:
        """Erasing a person: a backup of the rows is noise once the key that wrapped its data key is destroyed."""
        with server.store.write() as conn:
            assert delete_data_key(conn, phone.id)
            assert not delete_data_key(conn, phone.id)
        server.ctx.keyring.forget(phone.id)
        assert_nothing_comes_out(phone, server)

    def test_the_servers_own_key_exchanged(self, server: Server) -> None:
        """A server that starts on a database with another's key would seal for whoever put it there."""
        kek_id = OLD_WRAPPER.key_id
        put(server, server.ctx.keyring.wrapped(SERVER_OWNER, secrets.token_bytes(32), kek_id))
        with pytest.raises(WrongKek):
            restarted(server, OLD_WRAPPER)


class TestKeyring:
    def test_a_login_asks_for_its_key_once(self, phone: Phone, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """A statement more in each login would cost more than the keys do."""
        asked: list[bytes] = []

        def counted(conn: Any, owner_id: bytes) -> Any:
            asked.append(owner_id)
            return load_data_key(conn, owner_id)

        monkeypatch.setattr("authsvc.services.keyring.load_data_key", counted)
        for _ in range(3):
            phone.get()
        assert phone.confirm()
        assert asked == [phone.id]

    def test_a_key_service_that_is_down_costs_nobody_an_attempt(
        self, phone: Phone, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reader = restarted(server, OLD_WRAPPER)

        class Down(RawKeyWrapper):
            def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
                raise KeyUnavailable("timeout", "no answer")

        reader.ctx.keyring._wrappers = {OLD_WRAPPER.key_id: Down(KEK)}
        before = reader.dump()
        phone.network.serve = reader.serve
        with pytest.raises(TandemError):
            phone.get()
        path, answer = phone.network.answers[-1]
        assert path.path == LOGINS and (answer.status, answer.code) == (503, "unavailable")
        assert b"timeout" not in answer.body and reader.dump() == before
        phone.network.serve = server.serve
        assert phone.get() > 0
        reader.close()

    def test_a_key_whose_row_was_rolled_back_is_not_kept(self, server: Server) -> None:
        """Rows sealed under it later would be lost with the process."""
        keyring = server.ctx.keyring
        new = keyring.new_key(SystemRng(), b"n" * 16, OLD_WRAPPER.key_id)
        with pytest.raises(RuntimeError), server.store.write() as conn:
            keyring.insert(conn, new)
            raise RuntimeError
        with pytest.raises(SealingError):
            server.ctx.data_key(b"n" * 16)

    def test_keys_dropped_from_memory_are_read_again(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("authsvc.services.keyring._KEPT_KEYS", 2)
        owners = more_owners(server, 5)
        sealed = {owner: server.ctx.data_key(owner).seal("sealed_key", b"", owner) for owner in owners}
        assert len(server.ctx.keyring._keys) == 2
        for owner in owners:
            assert server.ctx.data_key(owner).open("sealed_key", b"", sealed[owner]) == owner

    def test_the_servers_own_key_is_never_dropped_from_memory(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Checkpoints are sealed inside a transaction that nobody writes beside: no place to wait for a key service."""
        monkeypatch.setattr("authsvc.services.keyring._KEPT_KEYS", 2)
        own = server.ctx.data_key(SERVER_OWNER)
        for owner in more_owners(server, 3):
            server.ctx.data_key(owner)
        server.ctx.keyring._wrappers = {}
        assert server.ctx.data_key(SERVER_OWNER) is own

    def test_a_reader_from_before_an_erasure_does_not_keep_the_key(self, server: Server) -> None:
        """Its snapshot still shows the row; kept in memory, the key would outlive the person in it for weeks."""
        gone, other = more_owners(server, 2)
        keyring = server.ctx.keyring

        def erase() -> None:
            with server.store.write() as conn:
                delete_data_key(conn, gone)
            keyring.forget(gone)

        with server.store.read() as conn:
            assert load_data_key(conn, gone) is not None
            erasing = threading.Thread(target=erase)
            erasing.start()
            erasing.join()
            assert keyring.key_of(conn, gone) is not keyring.key_of(conn, gone)
            assert keyring.key_of(conn, other) is keyring.key_of(conn, other)
        with pytest.raises(SealingError):
            server.ctx.data_key(gone)

    def test_unfinished_enrolments_leave_no_key_behind(self, tmp_path: Path, server: Server) -> None:
        code = administration.issue_code(server.ctx, label="Eve").code
        before = len(server.dump()["data_keys"])
        assert before == sum(map(len, keys_by_kek(server).values()))
        for attempt in range(2):
            server_2 = _LosesTheAnswer(server)
            with pytest.raises(TandemError):
                enrol(_folder(tmp_path / str(attempt)), server_2, code)  # type: ignore[arg-type]
        assert len(server.dump()["data_keys"]) == before + 1


class _LosesTheAnswer:
    """A server whose first answer to an enrolment never arrives."""

    def __init__(self, server: Server) -> None:
        self.server, self.clock, self.profile_document = server, server.clock, server.profile_document

    def serve(self, request: Any) -> Any:
        answer = self.server.serve(request)
        assert answer.status == 200
        raise TandemError("lost")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
