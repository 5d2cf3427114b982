"""`tandem-keys rewrap`: a server or a device gets a new recipient key, and its halves follow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from dealers_room import (
    PASSPHRASE,
    Holder,
    Room,
    files_of,
    holder,
    manifest_of,
    refused,
    remains_of,
    run,
    signer_of,
    succeeds,
)

from mpc.provisioning.manifest import CeremonyKind, SignedManifest, share_path
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
    """The arguments; the signer is the right one and the new recipient not compared, unless `more` says otherwise."""
    return [
        *("rewrap", str(source or room.out), "--key", str(old.key_file()), "--to", str(new.file)),
        *("--out", str(room.folder / out), "--passphrase-file", str(room.folder / "passphrase")),
        *(more or ("--not-compared", "--ceremony-key-fingerprint", signer_of(source or room.out))),
    ]


def test_a_new_server_key_opens_all_server_halves_and_they_are_the_same(room: Room) -> None:
    """The halves may not change: the devices have theirs already."""
    new, before = holder(room.folder / "server2.json", Role.SERVER), manifest_of(room.out)

    succeeds(*rewrap(room, room.server, new), "--operator", "Ada", "--witness", "Emmy")

    after = manifest_of(room.folder / "next")
    assert (after.kind, after.revision) == (CeremonyKind.REWRAP, 1)
    assert after.previous == SignedManifest.decode((room.out / "manifest.json").read_bytes()).digest
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
    assert manifest.previous == SignedManifest.decode((room.folder / "next" / "manifest.json").read_bytes()).digest
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


def test_a_device_is_replaced_although_the_others_took_their_halves_away(room: Room) -> None:
    """Only the halves to be sealed again are needed: a fleet's other files are long gone by then."""
    alice, bob = room.devices
    before = manifest_of(room.out)
    shutil.rmtree(room.out / "device" / bob.recipient.enrolment_id.hex())
    new = holder(room.folder / "alice2.json", Role.DEVICE)

    succeeds(*rewrap(room, alice, new))

    assert new.opens(room.folder / "next", before.keys[0]) == alice.opens(room.out, before.keys[0])
    path = share_path(bob.recipient, before.keys[-1].key.key_id)
    assert manifest_of(room.folder / "next").files[path] == before.files[path]


def test_a_missing_half_of_the_replaced_recipient_stops_the_rewrap(room: Room) -> None:
    """Its successor would be told of a key that it can never have."""
    alice = room.devices[0]
    (room.out / share_path(alice.recipient, manifest_of(room.out).keys[1].key.key_id)).unlink()

    assert refused(*rewrap(room, alice, holder(room.folder / "alice2.json", Role.DEVICE)))[0] == "missing"

    assert not remains_of(room.folder / "next")


def test_a_reformatted_manifest_is_the_same_link_of_the_chain(room: Room) -> None:
    """A courier who indents the file anew breaks no signature, and must not break the order of revisions either."""
    second, third = (holder(room.folder / f"server{n}.json", Role.SERVER) for n in (2, 3))
    succeeds(*rewrap(room, room.server, second))
    file = room.out / "manifest.json"
    before = file.read_bytes()
    file.write_text(json.dumps(json.loads(before), sort_keys=True), encoding="utf-8")
    assert file.read_bytes() != before

    succeeds(*rewrap(room, room.server, third, out="third"))

    previous = {manifest_of(room.folder / name).previous for name in ("next", "third")}
    assert previous == {SignedManifest.decode(before).digest}


def test_unfit_successors_are_refused(room: Room) -> None:
    """Each would seal halves to somebody who should not have them, or to nobody new."""
    alice, bob = room.devices
    elsewhere = holder(room.folder / "elsewhere.json", Role.SERVER, server_id="elsewhere")
    bobs_other = holder(room.folder / "bob2.json", Role.DEVICE, enrolment_id=bob.recipient.enrolment_id)
    stranger, fresh = (holder(room.folder / f"{name}.json", Role.SERVER) for name in ("stranger", "fresh"))

    signed = ["--ceremony-key-fingerprint", signer_of(room.out)]

    assert refused(*rewrap(room, room.server, alice))[0] == "other_role"
    assert refused(*rewrap(room, room.server, elsewhere))[0] == "other_server"
    assert refused(*rewrap(room, room.server, room.server))[0] == "same_recipient"
    assert refused(*rewrap(room, alice, bob))[0] == "same_recipient"
    assert refused(*rewrap(room, alice, bobs_other))[0] == "duplicate_recipient"
    assert refused(*rewrap(room, stranger, fresh))[0] == "unknown_recipient"
    assert (
        refused(*rewrap(room, room.server, fresh, *signed, "--expect", alice.recipient.fingerprint))[0]
        == "unexpected_recipient"
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

    given = ["--not-compared", "--ceremony-key-fingerprint", wrong]
    assert refused(*rewrap(room, room.server, new, *given))[0] == "other_ceremony_key"
    assert not remains_of(room.folder / "next")


def test_a_folder_whose_signer_nobody_compared_is_not_rewrapped(room: Room) -> None:
    """A courier deals keys that he knows to the same recipients and swaps the folders; a rewrap would sign them."""
    genuine = signer_of(room.out)
    succeeds("generate", *room.options(room.folder / "forged"))
    shutil.rmtree(room.out)
    (room.folder / "forged").rename(room.out)
    new = holder(room.folder / "server2.json", Role.SERVER)
    expected = ["--expect", new.recipient.fingerprint]

    reason, sentence = refused(*rewrap(room, room.server, new, *expected))
    assert reason == "not_compared" and "--ceremony-key-fingerprint" in sentence
    assert refused(*rewrap(room, room.server, new, "--not-compared"))[0] == "not_compared"
    given = [*expected, "--ceremony-key-fingerprint", genuine]
    assert refused(*rewrap(room, room.server, new, *given))[0] == "other_ceremony_key"
    assert not remains_of(room.folder / "next")


def test_the_new_manifest_says_who_signed_the_old_one_and_how_that_was_compared(room: Room) -> None:
    """Whoever trusts the new signature can see what it rests on."""
    new, signer = holder(room.folder / "server2.json", Role.SERVER), signer_of(room.out)

    succeeds(*rewrap(room, room.server, new))

    parameters = manifest_of(room.folder / "next").parameters
    assert parameters["replaced manifest signed by"] == signer
    assert parameters["replaced manifest compared"] == "with a given fingerprint"
    shown = run("verify", str(room.folder / "next")).stdout
    assert f"replaced manifest signed by: {signer}" in shown
    assert "replaced manifest compared: with a given fingerprint" in shown
    assert "recipients compared: not compared" in shown
