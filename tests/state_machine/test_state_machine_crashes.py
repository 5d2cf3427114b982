"""Either side is killed at every durable write, before, inside and after it. Afterwards the user signs in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from state_machine_databases import ON_ONE_DATABASE, assert_sound, copy_database
from state_machine_harness import LOGINS, Clock, Phone, Server, copy_vault, opened_message
from state_machine_processes import RemoteServer, enrol, run_device
from state_machine_thief import crafted_login

from authsvc.services import administration
from authsvc.services.context import SignedRequest
from device_sdk.errors import EnrolmentRefused, TransportError, VaultMissing


def nothing_half_written(server: Server, enrolment_id: bytes, sent: list[SignedRequest]) -> None:
    """The file is sound; every row belongs to one message that was sent; no (index, nonce) pair occurs twice."""
    assert_sound(server.path.parent)
    row, rows = server.enrolment(enrolment_id), server.logins(enrolment_id)
    assert row.last_index == max((login.ot_index for login in rows), default=0)
    assert row.template_attempts == sum(login.cost for login in rows)
    for login in rows:
        assert (login.state == "pending") == (login.sealed_rho is not None)
    bodies = {hashlib.sha256(request.body).digest() for request in sent if request.path == LOGINS}
    statements = {opened_message(request).statement for request in sent if request.path == LOGINS}
    pairs = [(statement.ot_index, statement.device_nonce) for statement in statements]
    assert len(pairs) == len(set(pairs)) == len(bodies)
    known = {hashlib.sha256(r.body).digest(): opened_message(r).statement.ot_index for r in sent if r.path == LOGINS}
    for login in rows:
        # What the shared fixture registered was sent before this test began.
        assert known.get(login.request_hash, login.ot_index) == login.ot_index


def signs_in(phone: Phone, server: Server) -> None:
    assert phone.get() > 0
    assert phone.confirm()
    assert phone.get() > 0
    assert phone.confirm()
    row = server.enrolment(phone.id)
    assert (row.status, row.epoch, row.last_index) == ("active", phone.state.epoch, phone.state.ot_index)
    assert "pending" not in server.states(phone.id)


class _Life:
    """A phone's login, confirmation, quarantine, lifting and recovery, against a server that dies once."""

    def __init__(self, source: Path, folder: Path, clock: Clock, die_at: int) -> None:
        self.folder, self.clock = folder, clock
        folder.mkdir()
        copy_database(source, folder)
        self.alive = Server(folder, clock)  # looks on, and takes over
        self.phone = Phone(copy_vault(source, folder / "phone"), self.alive)
        self.dying = RemoteServer(folder, clock, die_at)
        self.phone.network.serve = self.dying.serve
        self.serve, self.lift = self.dying.serve, self.dying.lift
        self.by_thief: list[SignedRequest] = []

    def again(self, step: Callable[[], object]) -> object:
        """Do it; if the server dies meanwhile, start another one on its file and do it once more."""
        try:
            return step()
        except TransportError:
            self.phone.network.serve, self.serve, self.lift = self.alive.serve, self.alive.serve, self.alive.lift
            return step()

    def accuse(self) -> None:
        if self.alive.enrolment(self.phone.id).status == "quarantined":
            return
        index = self.phone.state.ot_index + 10 + len(self.by_thief)
        request = crafted_login(self.phone, ot_index=index, sign_count=index, bent_column=0)
        self.by_thief.append(request)
        assert self.serve(request).code == "quarantined"

    def run(self) -> bool:
        """Whether the server died on the way."""
        phone = self.phone
        self.again(phone.get)
        self.again(phone.confirm)
        self.again(phone.get)
        self.again(self.accuse)
        code = self.again(lambda: self.lift(phone.id))
        assert isinstance(code, str)
        self.again(lambda: phone.device.recover(code))
        self.again(phone.get)
        died = self.dying.end()
        phone.network.serve = self.alive.serve
        signs_in(phone, self.alive)
        nothing_half_written(self.alive, phone.id, phone.network.requests + self.by_thief)
        phone.crash()
        self.alive.close()
        return died


def test_a_server_killed_at_any_write_of_login_confirmation_and_recovery(
    enrolled_folder: Path, tmp_path: Path, clock: Clock
) -> None:
    """Nothing leaves before a commit, so a kill is a lost answer or a lost request, and both are survivable."""
    deaths = 0
    for die_at in count():
        if not _Life(enrolled_folder, tmp_path / str(die_at), clock, die_at).run():
            break
        deaths += 1

    # Seven transactions or more, each with a point before, inside and after.
    assert deaths >= 21 and deaths % 3 == 0


@pytest.fixture
def kills() -> Iterator[Callable[[Callable[[int], bool]], int]]:
    """Runs a scenario with a kill at each point until one lives to its end; how many were killed."""

    def all_of(scenario: Callable[[int], bool]) -> int:
        return next(die_at for die_at in count() if not scenario(die_at))

    yield all_of


def test_a_phone_killed_at_any_write_of_its_enrolment_enrols_again(
    tmp_path: Path, clock: Clock, kills: Callable[[Callable[[int], bool]], int]
) -> None:
    """Either there is a whole vault, or none and the way is free for another try."""
    server = Server(tmp_path, clock)

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        (folder / "accounts.json").write_text("{}")
        code = administration.issue_code(server.ctx, label="Ada").code
        killed, _ = run_device(server, folder, die_at, "enrol", code)
        try:
            phone = Phone(folder, server)
        except VaultMissing:
            assert killed
            try:
                enrol(folder, server, code)
            except EnrolmentRefused:  # the server had finished, and the code is spent
                enrol(folder, server, administration.issue_code(server.ctx, label="Ada").code)
            phone = Phone(folder, server)
        phone.create()
        signs_in(phone, server)
        phone.crash()
        return killed

    assert kills(scenario) == 3
    server.close()


@ON_ONE_DATABASE
@pytest.mark.parametrize(("task", "fewest_writes"), [("create", 4), ("get", 5)])
def test_a_phone_killed_at_any_write_of_a_ceremony_signs_in_afterwards(
    enrolled_folder: Path,
    tmp_path: Path,
    clock: Clock,
    kills: Callable[[Callable[[int], bool]], int],
    task: str,
    fewest_writes: int,
) -> None:
    """Write ahead, then send; write, then release: whichever half was lost, the next login finds common ground."""

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        copy_database(enrolled_folder, folder)
        server = Server(folder, clock)
        killed, sent = run_device(server, copy_vault(enrolled_folder, folder / "phone"), die_at, task, "bob")
        phone = Phone(folder / "phone", server)
        passkeys = {info.credential_id for info in phone.device.credentials()}
        old = next(credential_id for credential_id in passkeys if phone.relying_party.knows(credential_id))
        phone.get(credential_id=old)
        assert phone.confirm()
        phone.create("carol")
        signs_in(phone, server)
        nothing_half_written(server, phone.id, sent + phone.network.requests)
        phone.crash()
        server.close()
        return killed

    assert kills(scenario) >= 3 * fewest_writes


@ON_ONE_DATABASE
def test_a_phone_killed_at_any_write_of_its_recovery_recovers_with_the_same_code(
    enrolled_folder: Path, tmp_path: Path, clock: Clock, kills: Callable[[Callable[[int], bool]], int]
) -> None:
    """The new key and base keys are durable before the server hears of them, so a lost half is said again."""

    def scenario(die_at: int) -> bool:
        folder = tmp_path / str(die_at)
        folder.mkdir()
        copy_database(enrolled_folder, folder)
        server = Server(folder, clock)
        phone = Phone(copy_vault(enrolled_folder, folder / "phone"), server)
        phone.get()  # leaves a confirmation to be settled on the way
        accusation = crafted_login(phone, ot_index=9, sign_count=9, bent_column=0)
        assert server.serve(accusation).code == "quarantined"
        code = server.lift(phone.id)
        before = [*phone.network.requests, accusation]
        phone.crash()
        killed, sent = run_device(server, folder / "phone", die_at, "recover", code)
        phone.open()
        if killed and (phone.state.recovery is not None or server.enrolment(phone.id).status == "recovering"):
            phone.device.recover(code)
        signs_in(phone, server)
        nothing_half_written(server, phone.id, before + sent + phone.network.requests[1:])
        phone.crash()
        server.close()
        return killed

    assert kills(scenario) == 6
