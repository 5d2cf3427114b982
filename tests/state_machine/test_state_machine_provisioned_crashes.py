"""A phone is killed at every durable write of an import and of a registration with a dealt key; then it goes on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from state_machine_databases import ON_ONE_DATABASE, copy_database
from state_machine_dealer import Dealt, deal
from state_machine_harness import PAIR, Clock, Phone, Server, copy_vault
from state_machine_processes import run_device


def until_one_lives(scenario: Callable[[int], bool]) -> int:
    """Run with a kill at each point until one run lives to its end; how many were killed."""
    return next(die_at for die_at in count() if not scenario(die_at))


class Scene:
    """A server and a phone in a folder of their own, with a key dealt to the phone."""

    def __init__(self, source: Path, folder: Path, clock: Clock, *, imported: bool) -> None:
        folder.mkdir()
        copy_database(source, folder)
        self.server = Server(folder, clock)
        self.folder = copy_vault(source, folder / "phone")
        phone = Phone(self.folder, self.server)
        self.dealt: Dealt = deal(self.server.ctx, [phone.device.recipient()])
        self.dealt.import_into(self.server.ctx)
        self.share = folder / "phone.share"
        self.share.write_bytes(self.dealt.device_file())
        if imported:
            phone.device.import_share(self.share)
        self.registered_before = {info.credential_id for info in phone.device.credentials()}
        phone.crash()

    @property
    def key_id(self) -> bytes:
        return self.dealt.key_id()

    def status(self, phone: Phone) -> str:
        return next(row.status for row in self.server.credentials(phone.id) if row.id == self.key_id)


def held_once(phone: Phone, key_id: bytes) -> str:
    """Where the key is: it waits, or it is a passkey in use, and never both or neither."""
    waits = key_id in {info.key_id for info in phone.device.provisioned()}
    in_use = key_id in {info.credential_id for info in phone.device.credentials()}
    assert waits != in_use
    return "waits" if waits else "in use"


@ON_ONE_DATABASE
def test_a_phone_killed_at_any_write_of_an_import_imports_again(
    enrolled_folder: Path, tmp_path: Path, clock: Clock
) -> None:
    """Whether the server had said yes already or not: the same file works once more, and the key is there once."""

    def scenario(die_at: int) -> bool:
        scene = Scene(enrolled_folder, tmp_path / str(die_at), clock, imported=False)
        killed, sent = run_device(scene.server, scene.folder, die_at, "import", str(scene.share))
        assert [request.path for request in sent] == [PAIR], "the server is asked before anything is stored"
        phone = Phone(scene.folder, scene.server)
        stored = [info.key_id for info in phone.device.provisioned()]
        assert stored in ([], [scene.key_id]) and (killed or stored)
        phone.device.import_share(scene.share)
        assert held_once(phone, scene.key_id) == "waits"
        assert phone.create("bob") == scene.key_id
        assert phone.confirm() and phone.get(credential_id=scene.key_id) > 0
        phone.crash()
        scene.server.close()
        return killed

    assert until_one_lives(scenario) == 3  # before the write, in it, after it


@ON_ONE_DATABASE
@pytest.mark.parametrize("answer", ["", "renew"])
def test_a_phone_killed_while_it_makes_a_recipient_has_the_old_one_or_the_new_one(
    enrolled_folder: Path, tmp_path: Path, clock: Clock, answer: str
) -> None:
    """A recipient that was given out and is not in the vault would make every share sealed to it worthless."""

    def scenario(die_at: int) -> bool:
        scene = Scene(enrolled_folder, tmp_path / str(die_at), clock, imported=False)
        old = scene.dealt.devices[0]
        killed, _ = run_device(scene.server, scene.folder, die_at, "recipient", answer)
        phone = Phone(scene.folder, scene.server)
        now = phone.device.recipient()
        if not answer:
            assert now == old and not killed
        elif not killed:
            assert now != old
        dealt = deal(scene.server.ctx, [now], which=1)
        dealt.import_into(scene.server.ctx)
        assert phone.device.import_share(dealt.device_file()).key_id == dealt.key_id()
        phone.crash()
        scene.server.close()
        return killed

    assert until_one_lives(scenario) == (3 if answer else 0)


@ON_ONE_DATABASE
def test_a_phone_killed_at_any_write_of_a_registration_never_loses_or_doubles_the_key(
    enrolled_folder: Path, tmp_path: Path, clock: Clock
) -> None:
    """The one write that activates the passkey also takes the key off the waiting list."""
    found: list[str] = []

    def scenario(die_at: int) -> bool:
        scene = Scene(enrolled_folder, tmp_path / str(die_at), clock, imported=True)
        killed, _ = run_device(scene.server, scene.folder, die_at, "create", "bob")
        phone = Phone(scene.folder, scene.server)
        where = held_once(phone, scene.key_id)
        found.append(where)
        if where == "waits":
            assert phone.create("carol") == scene.key_id
            assert phone.confirm()
            assert phone.get(credential_id=scene.key_id) > 0
        else:
            # Signed, and perhaps never heard of by the relying party: as with any passkey, a new one is made.
            assert phone.create("carol") != scene.key_id
        assert phone.confirm()
        assert not phone.state.overtaken and not phone.device.provisioned()
        assert scene.status(phone) == "active"
        assert len(phone.device.credentials()) == len(scene.registered_before) + (1 if where == "waits" else 2)
        row = scene.server.enrolment(phone.id)
        assert (row.status, row.epoch) == ("active", phone.state.epoch)
        phone.crash()
        scene.server.close()
        return killed

    # Four writes: the provisional credential, the index, the match, the confirmation.
    assert until_one_lives(scenario) == 12
    assert found == ["waits"] * 8 + ["in use"] * 5


def test_a_registration_that_a_crash_cut_short_keeps_its_counter(
    enrolled_folder: Path, tmp_path: Path, clock: Clock
) -> None:
    """Killed right after the server counted the attempt: an import or a registration must go on from there."""
    scene = Scene(enrolled_folder, tmp_path / "scene", clock, imported=True)
    killed, _ = run_device(scene.server, scene.folder, 6, "create", "bob")  # before the write that follows the match
    assert killed
    phone = Phone(scene.folder, scene.server)
    (provisional,) = [credential for credential in phone.state.credentials if credential.provisional]
    assert (provisional.credential_id, provisional.sign_count) == (scene.key_id, 1)
    assert phone.state.provisioned[0].sign_count == 0

    info = phone.device.import_share(scene.share)

    assert not info.in_use and phone.state.provisioned[0].sign_count == 1
    assert not any(credential.provisional for credential in phone.state.credentials)
    assert phone.create("carol") == scene.key_id
    assert phone.state.credential(scene.key_id).sign_count == 2
    phone.crash()
    scene.server.close()
