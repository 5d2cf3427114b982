"""Revoking many keys at once: exactly those that were named, all of them or none."""

from __future__ import annotations

import pytest
from authsvc_dealer import Dealt, deal, device_recipient, enrol, events, everything, number_like_a_key, server_recipient
from authsvc_dealer import stored as stored_row

from authsvc.services import key_revocation
from authsvc.services.context import ServiceContext
from authsvc.services.key_revocation import NamedKey, read_key_list
from authsvc.services.provisioning_refusals import ProvisioningRefused
from authsvc.store.ceremonies import load_ceremony
from authsvc.store.credentials import CredentialRow, insert_credential
from mpc.primitives import base64url

ALICE = b"a" * 16
OWN = b"o" * 32


@pytest.fixture
def two(provisioning: ServiceContext) -> tuple[Dealt, Dealt]:
    """Two ceremonies of three keys each, and a credential of the device's own."""
    enrol(provisioning, ALICE)
    phone = device_recipient(ALICE)[1]
    folders = [
        deal(server_recipient(provisioning), lambda _: phone, [number_like_a_key() for _ in range(3)]) for _ in range(2)
    ]
    for folder in folders:
        folder.import_into(provisioning)
    with provisioning.store.write() as conn:
        insert_credential(
            conn, CredentialRow(OWN, ALICE, "shop.example", -257, b"\xff" * 256, 65537, b"sealed", "active", 0, 1.0)
        )
    return folders[0], folders[1]


def statuses(ctx: ServiceContext, *folders: Dealt) -> list[str]:
    found = []
    for key_id in [key_id for folder in folders for key_id in folder.key_ids]:
        row = stored_row(ctx, key_id)
        assert row is not None and (row.sealed_share is None) == (row.status == "revoked")
        found.append("revoked" if row.status == "revoked" else "waits")
    return found


def named(*key_ids: bytes) -> list[NamedKey]:
    return [NamedKey(key_id, f"line {number}") for number, key_id in enumerate(key_ids, start=1)]


def test_by_key_id_exactly_these(provisioning: ServiceContext, two: tuple[Dealt, Dealt]) -> None:
    one, other = two
    wanted = (one.key_ids[1], other.key_ids[0])

    done = key_revocation.revoke_keys(provisioning, named(*wanted, wanted[0]))

    assert (done.revoked, done.before, done.unknown) == (wanted, (), ())
    assert statuses(provisioning, one, other) == ["waits", "revoked", "waits", "revoked", "waits", "waits"]
    assert events(provisioning)[-2:] == [
        ("provisioned_key_revoked", ALICE.hex(), {"key_id": key_id.hex(), "from": "provisioned", "by": "command line"})
        for key_id in wanted
    ]


def test_by_ceremony_all_of_it_and_nothing_else(provisioning: ServiceContext, two: tuple[Dealt, Dealt]) -> None:
    one, other = two
    done = key_revocation.revoke_ceremony(provisioning, one.manifest.ceremony_id)
    assert set(done.revoked) == set(one.key_ids)
    assert statuses(provisioning, one, other) == ["revoked"] * 3 + ["waits"] * 3
    own = stored_row(provisioning, OWN)
    assert own is not None and own.status == "active"


def test_a_ceremony_whose_keys_all_ended_one_by_one_can_still_be_ended_as_a_whole(
    provisioning: ServiceContext, two: tuple[Dealt, Dealt]
) -> None:
    """It then takes no further revision, and the event says so once."""
    one, _ = two
    key_revocation.revoke_keys(provisioning, named(*one.key_ids))
    for _ in range(2):
        assert key_revocation.revoke_ceremony(provisioning, one.manifest.ceremony_id).revoked == ()
    ended = [detail for name, _, detail in events(provisioning) if name == "ceremony_revoked"]
    assert ended == [{"ceremony_id": one.manifest.ceremony_id.hex(), "keys": 0, "by": "command line"}]
    with provisioning.store.read() as conn:
        row = load_ceremony(conn, one.manifest.ceremony_id)
    assert row is not None and row.revoked_at == provisioning.clock()


def test_again_is_no_error_and_changes_nothing(provisioning: ServiceContext, two: tuple[Dealt, Dealt]) -> None:
    one, _ = two
    key_revocation.revoke_ceremony(provisioning, one.manifest.ceremony_id)
    before = everything(provisioning)

    by_ceremony = key_revocation.revoke_ceremony(provisioning, one.manifest.ceremony_id)
    by_id = key_revocation.revoke_keys(provisioning, named(*one.key_ids))

    assert everything(provisioning) == before
    for done in (by_ceremony, by_id):
        assert done.revoked == () and set(done.before) == set(one.key_ids)


@pytest.mark.parametrize("stranger", [b"?" * 32, OWN], ids=["unknown", "a key of the device's own"])
def test_one_id_that_is_none_stops_all(provisioning: ServiceContext, two: tuple[Dealt, Dealt], stranger: bytes) -> None:
    """A list that names a key this server does not have may be for another server."""
    one, _ = two
    before = everything(provisioning)
    with pytest.raises(ProvisioningRefused, match=r"line 2: .* is no provisioned key") as refused:
        key_revocation.revoke_keys(provisioning, named(one.key_ids[0], stranger, one.key_ids[1]))
    assert refused.value.reason == "unknown_key"
    assert everything(provisioning) == before

    done = key_revocation.revoke_keys(
        provisioning, named(one.key_ids[0], stranger, one.key_ids[1]), ignore_unknown=True
    )
    assert (done.revoked, done.unknown) == (one.key_ids[:2], (stranger,))
    own = stored_row(provisioning, OWN)
    assert own is not None and own.status == "active"


def test_an_unknown_ceremony(provisioning: ServiceContext, two: tuple[Dealt, Dealt]) -> None:
    before = everything(provisioning)
    with pytest.raises(ProvisioningRefused) as refused:
        key_revocation.revoke_ceremony(provisioning, bytes(16))
    assert refused.value.reason == "unknown_ceremony"
    assert everything(provisioning) == before


def test_a_list_as_people_write_it() -> None:
    one, two, three = (base64url.encode(digit * 32) for digit in (b"1", b"2", b"3"))
    text = f"# lost on the train\n\n  {one}\t\r\n#{three}\n{two}"
    assert read_key_list(text.encode()) == [NamedKey(b"1" * 32, "line 3"), NamedKey(b"2" * 32, "line 5")]
    assert read_key_list(b"") == read_key_list(b"# nothing\n") == []


GOOD = base64url.encode(b"1" * 32)


@pytest.mark.parametrize(
    "line",
    [
        GOOD + "=",
        GOOD[:-1],
        GOOD + "A",
        GOOD + " # a comment beside it",
        GOOD[:-1] + "F",  # other spare bits: a second way to write the same bytes
        GOOD.replace(GOOD[0], "+", 1),
        "\u00e9" * 43,
        f"{GOOD},{GOOD}",
        "\x00",
        (b"1" * 32).hex(),
    ],
)
def test_a_line_that_is_no_key_id_names_itself(line: str) -> None:
    with pytest.raises(ProvisioningRefused, match=r"^line 2: ") as refused:
        read_key_list(f"{GOOD}\n{line}\n{GOOD}".encode())
    assert refused.value.reason == "not_a_key_list"
    assert line not in str(refused.value)


def test_a_list_without_end_is_refused() -> None:
    with pytest.raises(ProvisioningRefused, match="larger"):
        read_key_list(bytes(key_revocation.MAX_LIST_BYTES + 1))


def test_the_inventory_is_of_provisioned_keys_only(provisioning: ServiceContext, two: tuple[Dealt, Dealt]) -> None:
    one, other = two
    every = {row.id for row in key_revocation.inventory(provisioning)}
    assert every == {*one.key_ids, *other.key_ids}
    assert {row.id for row in key_revocation.inventory(provisioning, one.manifest.ceremony_id)} == set(one.key_ids)
    assert key_revocation.inventory(provisioning, bytes(16)) == []
