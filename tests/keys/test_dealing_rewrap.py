"""`tandem-keys rewrap`: a server or a device gets a new recipient key, and its halves follow."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from dealers_room import PASSPHRASE, Holder, Room, files_of, holder, manifest_of, refused, remains_of, succeeds

from mpc.provisioning.manifest import CeremonyKind, share_path
from mpc.threshold_rsa.share_package import Role


@pytest.fixture
def room(tmp_path: Path) -> Room:
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    room.passphrase_file()
    succeeds("generate", *room.options(), "--count", "2", "--operator", "Grace", "--valid-days", "90")
    return room


def rewrap(
    room: Room, old: Holder, new: Holder, *more: str, source: Path | None = None, out: str = "next"
) -> list[str]:
    return [
        *("rewrap", str(source or room.out), "--key", str(old.key_file()), "--to", str(new.file)),
        *("--out", str(room.folder / out), "--passphrase-file", str(room.folder / "passphrase"), *more),
    ]


def test_a_new_server_key_opens_all_server_halves_and_they_are_the_same(room: Room) -> None:
    """The halves may not change: the devices have theirs already."""
    new, before = holder(room.folder / "server2.json", Role.SERVER), manifest_of(room.out)

    succeeds(*rewrap(room, room.server, new, "--operator", "Ada", "--witness", "Emmy"))

    after = manifest_of(room.folder / "next")
    assert (after.kind, after.revision) == (CeremonyKind.REWRAP, 1)
    assert after.previous == hashlib.sha256((room.out / "manifest.json").read_bytes()).digest()
    assert (after.ceremony_id, after.rp_id, after.not_after) == (before.ceremony_id, before.rp_id, before.not_after)
    assert (after.operators, after.witnesses) == (("Ada",), ("Emmy",))
    assert [dealt.key for dealt in after.keys] == [dealt.key for dealt in before.keys]
    for dealt in before.keys:
        assert new.opens(room.folder / "next", dealt) == room.server.opens(room.out, dealt)
    succeeds("verify", str(room.folder / "next"))


def test_a_replaced_device_with_a_new_enrolment_gets_only_its_own_halves(room: Room) -> None:
    """Bob's halves and the server's stay byte for byte; Alice's lie under her new enrolment."""
    alice, new = room.devices[0], holder(room.folder / "alice2.json", Role.DEVICE)

    succeeds(*rewrap(room, alice, new))

    before, after = files_of(room.out), files_of(room.folder / "next")
    unchanged = [
        path for path in before if path.startswith("server/") or room.devices[1].recipient.enrolment_id.hex() in path
    ]
    assert len(unchanged) == 4 + 2
    assert all(after[path] == before[path] for path in unchanged)
    assert not [path for path in after if alice.recipient.enrolment_id.hex() in path]
    for dealt in manifest_of(room.out).keys[:2]:
        assert new.opens(room.folder / "next", dealt) == alice.opens(room.out, dealt)
    assert alice.recipient.id not in manifest_of(room.folder / "next").recipients


def test_a_second_rewrap_follows_the_first(room: Room) -> None:
    """Revisions form a chain, so nobody can slip in another one."""
    second, third = (holder(room.folder / f"server{n}.json", Role.SERVER) for n in (2, 3))
    succeeds(*rewrap(room, room.server, second))

    succeeds(*rewrap(room, second, third, source=room.folder / "next", out="third"))

    manifest = manifest_of(room.folder / "third")
    assert manifest.revision == 2
    assert manifest.previous == hashlib.sha256((room.folder / "next" / "manifest.json").read_bytes()).digest()
    assert third.opens(room.folder / "third", manifest.keys[0]) == room.server.opens(room.out, manifest.keys[0])


def test_halves_that_were_delivered_need_not_lie_there(room: Room) -> None:
    """The devices' files may be gone from the dealer's machine when the server's key is replaced."""
    before = manifest_of(room.out)
    shutil.rmtree(room.out / "device")
    new = holder(room.folder / "server2.json", Role.SERVER)

    succeeds(*rewrap(room, room.server, new))

    after = manifest_of(room.folder / "next")
    path = share_path(room.devices[0].recipient, before.keys[0].key.key_id)
    assert after.files[path] == before.files[path]
    assert not (room.folder / "next" / "device").exists()
    succeeds("verify", str(room.folder / "next"), "--role", "server")
    assert refused("verify", str(room.folder / "next"))[0] == "missing"


def test_unfit_successors_are_refused(room: Room) -> None:
    """Each would seal halves to somebody who should not have them, or to nobody new."""
    alice, bob = room.devices
    elsewhere = holder(room.folder / "elsewhere.json", Role.SERVER, server_id="elsewhere")
    bobs_other = holder(room.folder / "bob2.json", Role.DEVICE, enrolment_id=bob.recipient.enrolment_id)
    stranger, fresh = (holder(room.folder / f"{name}.json", Role.SERVER) for name in ("stranger", "fresh"))

    assert refused(*rewrap(room, room.server, alice))[0] == "other_role"
    assert refused(*rewrap(room, room.server, elsewhere))[0] == "other_server"
    assert refused(*rewrap(room, room.server, room.server))[0] == "same_recipient"
    assert refused(*rewrap(room, alice, bob))[0] == "same_recipient"
    assert refused(*rewrap(room, alice, bobs_other))[0] == "duplicate_recipient"
    assert refused(*rewrap(room, stranger, fresh))[0] == "unknown_recipient"
    assert (
        refused(*rewrap(room, room.server, fresh, "--expect", alice.recipient.fingerprint))[0] == "unexpected_recipient"
    )
    assert not remains_of(room.folder / "next")


def test_the_old_key_must_open(room: Room) -> None:
    """A wrong passphrase, and a file that is no key."""
    new = holder(room.folder / "server2.json", Role.SERVER)
    arguments = rewrap(room, room.server, new)

    room.passphrase_file("this is another passphrase")
    assert refused(*arguments)[0] == "recipient_key"
    room.passphrase_file(PASSPHRASE)
    room.server.file.with_suffix(".key").write_bytes(room.server.recipient.document)
    assert refused(*arguments)[0] == "recipient_key"
    assert not remains_of(room.folder / "next")


def test_an_altered_ceremony_is_not_rewrapped(room: Room) -> None:
    """A new signature over old damage would make the damage official."""
    new = holder(room.folder / "server2.json", Role.SERVER)
    victim = next((room.out / "server").iterdir())
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)

    assert refused(*rewrap(room, room.server, new))[0] == "altered"
    assert not remains_of(room.folder / "next")


def test_a_ceremony_signed_by_another_key_is_not_rewrapped(room: Room) -> None:
    """With the fingerprint on paper, a forged folder is told from the real one."""
    new = holder(room.folder / "server2.json", Role.SERVER)
    wrong = room.server.recipient.fingerprint

    assert refused(*rewrap(room, room.server, new, "--ceremony-key-fingerprint", wrong))[0] == "other_ceremony_key"
    assert not remains_of(room.folder / "next")
