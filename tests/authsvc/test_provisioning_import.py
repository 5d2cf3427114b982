"""Importing a ceremony: all of it or nothing, as often as one likes, and only what fits this server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from authsvc_dealer import (
    Clock,
    Dealt,
    SplitKey,
    deal,
    device_recipient,
    enrol,
    events,
    everything,
    number_like_a_key,
    server_recipient,
    stored,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authsvc.errors import Refused
from authsvc.services import dealt_keys, recipients
from authsvc.services.context import ServiceContext
from authsvc.services.key_revocation import revoke_ceremony
from authsvc.services.provisioning_refusals import ProvisioningRefused
from authsvc.services.secrets_at_rest import open_key_share, seal_key_share
from authsvc.store.credentials import (
    CredentialRow,
    delete_credential,
    insert_credential,
    revoke_credential,
    set_credential_share,
    set_credential_status,
)
from authsvc.store.enrolments import update_enrolment
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.ceremony import CeremonyError
from mpc.provisioning.manifest import MANIFEST_NAME, server_share_path
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share

ALICE, BOB, CAROL = b"a" * 16, b"b" * 16, b"c" * 16


@pytest.fixture
def phones(provisioning: ServiceContext) -> list[Recipient]:
    """The recipients of two devices that are enrolled here."""
    for enrolment_id in (ALICE, BOB):
        enrol(provisioning, enrolment_id)
    return [device_recipient(enrolment_id)[1] for enrolment_id in (ALICE, BOB)]


@pytest.fixture
def dealt(provisioning: ServiceContext, phones: list[Recipient]) -> Dealt:
    """Two keys for each of them."""
    keys = [number_like_a_key() for _ in range(4)]
    return deal(server_recipient(provisioning), lambda place: phones[place % 2], keys)


def refused(ctx: ServiceContext, folder: Dealt, **arguments: object) -> str:
    """The reason of the refusal, once it is clear that nothing was stored."""
    before = everything(ctx)
    with pytest.raises((ProvisioningRefused, CeremonyError)) as raised:
        folder.import_into(ctx, **arguments)
    assert everything(ctx) == before
    return str(raised.value.reason)


class TestWhatIsStored:
    def test_each_half_waits_for_the_enrolment_it_was_dealt_to(
        self, provisioning: ServiceContext, dealt: Dealt, clock: Clock
    ) -> None:
        done = dealt.import_into(provisioning)

        assert (done.new, done.known, done.rebound, done.revoked) == (dealt.key_ids, (), (), ())
        for place, key in enumerate(dealt.keys):
            row = stored(provisioning, key.key_id)
            assert row is not None
            assert (row.status, row.enrolment_id, row.rp_id) == ("provisioned", (ALICE, BOB)[place % 2], "shop.example")
            assert (row.ceremony_id, row.not_after, row.sign_count) == (dealt.manifest.ceremony_id, None, 0)
            assert open_key_share(provisioning.data_key(row.enrolment_id), row) == key.server
        by = {"by": "command line"}
        assert events(provisioning)[-1] == (
            "shares_imported",
            None,
            {"ceremony_id": dealt.manifest.ceremony_id.hex(), "revision": 0, "new": 4, "known": 0, "rebound": 0} | by,
        )

    def test_the_share_is_in_no_row_in_clear(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        dealt.import_into(provisioning)
        for key in dealt.keys:
            row = stored(provisioning, key.key_id)
            assert row is not None and row.sealed_share is not None
            middle = key.server.to_bytes()[100:124]
            assert middle not in row.sealed_share and middle not in repr(row).encode("latin-1", "replace")

    def test_importing_again_changes_no_row(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        dealt.import_into(provisioning)
        before = everything(provisioning)

        done = dealt.import_into(provisioning)

        after = everything(provisioning)
        assert (done.new, done.known) == ((), dealt.key_ids)
        for table in ("credentials", "ceremonies", "recipients", "enrolments"):
            assert after[table] == before[table]
        assert [name for name, *_ in events(provisioning)[-2:]] == ["shares_imported"] * 2

    def test_importing_again_brings_no_revoked_key_back(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """The reason why rows of a ceremony are never deleted."""
        dealt.import_into(provisioning)
        with provisioning.store.write() as conn:
            revoke_credential(conn, dealt.key_ids[1])

        done = dealt.import_into(provisioning)

        assert (done.new, done.revoked) == ((), (dealt.key_ids[1],))
        row = stored(provisioning, dealt.key_ids[1])
        assert row is not None and (row.status, row.sealed_share) == ("revoked", None)

    def test_importing_again_takes_nothing_from_a_key_in_use(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        dealt.import_into(provisioning)
        with provisioning.store.write() as conn:
            set_credential_status(conn, dealt.key_ids[0], "active", algorithm=-37)

        dealt.import_into(provisioning)

        row = stored(provisioning, dealt.key_ids[0])
        assert row is not None and (row.status, row.algorithm) == ("active", -37)

    def test_importing_again_after_a_device_was_revoked_is_still_no_error(
        self, provisioning: ServiceContext, dealt: Dealt
    ) -> None:
        """A rerun finds the enrolment of a known key gone, and has nothing to store for it."""
        dealt.import_into(provisioning)
        with provisioning.store.write() as conn:
            update_enrolment(conn, BOB, status="revoked")

        assert dealt.import_into(provisioning).known == dealt.key_ids

    def test_the_devices_halves_need_not_lie_there(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """They are usually on their way to the devices by then."""
        files = {path: data for path, data in dealt.files.items() if not path.startswith("device/")}
        assert replace(dealt, files=files).import_into(provisioning).new == dealt.key_ids

    def test_expiry_and_an_unusual_exponent_are_kept(
        self, provisioning: ServiceContext, phones: list[Recipient], clock: Clock
    ) -> None:
        odd = number_like_a_key()
        key = replace(odd.server.key, exponent=2**31 - 1)
        other = SplitKey(replace(odd.device, key=key), replace(odd.server, key=key))
        folder = deal(server_recipient(provisioning), lambda _: phones[0], [other], not_after=int(clock.now) + 60)

        folder.import_into(provisioning)

        row = stored(provisioning, other.key_id)
        assert row is not None and (row.exponent, row.not_after) == (2**31 - 1, int(clock.now) + 60)
        assert open_key_share(provisioning.data_key(row.enrolment_id), row) == other.server


class TestTrust:
    def test_without_a_fingerprint_the_policy_decides(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        assert refused(provisioning, dealt, expected_ceremony_key=None) == "untrusted_ceremony"

        pinned = replace(provisioning.policy, ceremony_keys=frozenset({dealt.fingerprint}))
        trusting = replace(provisioning, policy=pinned)
        assert dealt.import_into(trusting, expected_ceremony_key=None).new == dealt.key_ids

    def test_the_fingerprint_as_a_person_types_it(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        typed = dealt.fingerprint.lower().replace("-", "  ")
        assert dealt.import_into(provisioning, expected_ceremony_key=typed).new == dealt.key_ids

    def test_another_ceremony_key_is_refused_even_if_pinned(
        self, provisioning: ServiceContext, phones: list[Recipient], dealt: Dealt
    ) -> None:
        """An operator who names a fingerprint means that one."""
        other = deal(server_recipient(provisioning), lambda _: phones[0], [number_like_a_key()])
        pinned = replace(provisioning.policy, ceremony_keys=frozenset({dealt.fingerprint}))
        trusting = replace(provisioning, policy=pinned)
        assert refused(trusting, dealt, expected_ceremony_key=other.fingerprint) == "untrusted_ceremony"

    def test_something_that_is_no_fingerprint(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        before = everything(provisioning)
        with pytest.raises(Refused) as raised:
            dealt.import_into(provisioning, expected_ceremony_key="trust me")
        assert raised.value.extension == {"field": "ceremony_key"}
        assert everything(provisioning) == before


class TestWhatDoesNotFitThisServer:
    def test_halves_for_another_server(self, provisioning: ServiceContext) -> None:
        recipient = new_recipient(
            role=Role.SERVER, name="x", server_id="other", enrolment_id=None, suite=HpkeSuite.X25519, now=1
        )[1]
        phone = device_recipient(ALICE, server_id="other")[1]
        folder = deal(recipient, lambda _: phone, [number_like_a_key()])
        assert refused(provisioning, folder) == "other_server"

    def test_a_recipient_with_our_name_that_is_not_ours(
        self, provisioning: ServiceContext, phones: list[Recipient]
    ) -> None:
        foreign = new_recipient(
            role=Role.SERVER, name="auth", server_id="auth.example", enrolment_id=None, suite=HpkeSuite.X25519, now=1
        )[1]
        assert refused(provisioning, deal(foreign, lambda _: phones[0], [number_like_a_key()])) == "unknown_recipient"

    def test_a_relying_party_that_is_not_served(self, provisioning: ServiceContext, phones: list[Recipient]) -> None:
        folder = deal(
            server_recipient(provisioning), lambda _: phones[0], [number_like_a_key()], rp_id="elsewhere.example"
        )
        assert refused(provisioning, folder) == "rp_not_allowed"

    def test_keys_that_have_expired(self, provisioning: ServiceContext, phones: list[Recipient], clock: Clock) -> None:
        folder = deal(
            server_recipient(provisioning), lambda _: phones[0], [number_like_a_key()], not_after=int(clock.now)
        )
        clock.now += 1
        assert refused(provisioning, folder) == "expired"
        clock.now -= 1
        assert folder.import_into(provisioning).new == folder.key_ids

    def test_a_device_that_is_not_enrolled_here_stops_all(
        self, provisioning: ServiceContext, phones: list[Recipient]
    ) -> None:
        """The last of four keys: the three before it must not stay."""
        nobody = device_recipient(CAROL)[1]
        keys = [number_like_a_key() for _ in range(4)]
        folder = deal(server_recipient(provisioning), lambda place: [*phones, phones[0], nobody][place], keys)
        assert refused(provisioning, folder) == "unknown_enrolment"
        assert all(stored(provisioning, key.key_id) is None for key in keys)

    @pytest.mark.parametrize("status", ["enrolling", "revoked"])
    def test_a_device_that_cannot_use_it_stops_all(
        self, provisioning: ServiceContext, dealt: Dealt, status: str
    ) -> None:
        with provisioning.store.write() as conn:
            update_enrolment(conn, BOB, status=status)  # type: ignore[typeddict-item]
        assert refused(provisioning, dealt) == "enrolment_not_usable"

    @pytest.mark.parametrize("status", ["quarantined", "recovering"])
    def test_a_device_that_is_out_of_service_for_now_is_no_obstacle(
        self, provisioning: ServiceContext, dealt: Dealt, status: str
    ) -> None:
        with provisioning.store.write() as conn:
            update_enrolment(conn, BOB, status=status)  # type: ignore[typeddict-item]
        assert dealt.import_into(provisioning).new == dealt.key_ids

    def test_a_key_of_another_ceremony(
        self, provisioning: ServiceContext, phones: list[Recipient], dealt: Dealt
    ) -> None:
        """The same key dealt twice: two splits, of which only one can be the one that the device has."""
        dealt.import_into(provisioning)
        again = deal(server_recipient(provisioning), lambda _: phones[0], [number_like_a_key(), dealt.keys[0]])
        assert refused(provisioning, again) == "other_credential"

    @pytest.mark.parametrize("status", ["provisional", "active", "revoked"])
    def test_an_id_that_a_device_took_for_a_key_of_its_own_is_taken_back(
        self, provisioning: ServiceContext, dealt: Dealt, status: str
    ) -> None:
        """Ids are random, so it was no chance; and one device must not stop a ceremony for all the others."""
        self.take(provisioning, dealt.key_ids[0], b"\xff" * 256, status)

        done = dealt.import_into(provisioning)

        assert (done.new, done.displaced) == (dealt.key_ids, (dealt.key_ids[0],))
        row = stored(provisioning, dealt.key_ids[0])
        assert row is not None and (row.enrolment_id, row.status) == (ALICE, "provisioned")
        assert ("credential_displaced", BOB.hex(), {"key_id": dealt.key_ids[0].hex(), "status": status}) in events(
            provisioning
        )
        assert dealt.import_into(provisioning).displaced == ()

    def test_a_dealt_key_that_a_device_uses_already(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """It knew the whole key, or went far to pretend so: a person decides, and then goes on."""
        modulus = dealt.keys[0].server.key.modulus_bytes
        self.take(provisioning, dealt.key_ids[0], modulus, "active")
        assert refused(provisioning, dealt) == "other_credential"

        with provisioning.store.write() as conn:
            revoke_credential(conn, dealt.key_ids[0])
        assert dealt.import_into(provisioning).displaced == (dealt.key_ids[0],)

    def take(self, ctx: ServiceContext, key_id: bytes, modulus: bytes, status: str) -> None:
        """Bob's device has put a credential of its own under that id."""
        with ctx.store.write() as conn:
            insert_credential(
                conn,
                CredentialRow(key_id, BOB, "shop.example", -257, modulus, 65537, b"sealed", status, 0, 1.0),  # type: ignore[arg-type]
            )

    def test_more_keys_than_a_device_can_hold(
        self, provisioning: ServiceContext, phones: list[Recipient], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They would make its next recovery too large to be answered. Counted over all ceremonies."""
        monkeypatch.setattr(dealt_keys, "MAX_WAITING_KEYS", 3)
        own = server_recipient(provisioning)
        first = deal(own, lambda _: phones[0], [number_like_a_key() for _ in range(2)])
        second = deal(own, lambda _: phones[0], [number_like_a_key() for _ in range(2)])
        others = deal(own, lambda _: phones[1], [number_like_a_key() for _ in range(3)])
        first.import_into(provisioning)

        assert refused(provisioning, second) == "too_many_keys"

        assert others.import_into(provisioning).new == others.key_ids
        with provisioning.store.write() as conn:
            set_credential_status(conn, first.key_ids[0], "active")
        assert second.import_into(provisioning).new == second.key_ids

    def test_a_recipient_retired_while_the_halves_are_opened(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """Retiring means that from then on nothing sealed to it gets in, also what was just being read."""
        path = server_share_path(dealt.key_ids[-1])
        reads = 0

        def read(name: str) -> bytes | None:
            nonlocal reads
            reads += name == path
            if name == path and reads == 2:  # the key to open it is in memory by then
                recipients.retire(provisioning, server_recipient(provisioning).fingerprint)
            return dealt.files[name]

        with pytest.raises(ProvisioningRefused) as raised:
            replace(dealt, files=Exchanging(dealt.files, read)).import_into(provisioning)
        assert (raised.value.reason, reads) == ("retired_recipient", 2)
        assert everything(provisioning)["credentials"] == []

    def test_a_row_of_a_ceremony_is_never_deleted(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """Importing again would bring a revoked key back."""
        dealt.import_into(provisioning)
        with pytest.raises(KeyError), provisioning.store.write() as conn:
            delete_credential(conn, dealt.key_ids[0])
        assert stored(provisioning, dealt.key_ids[0]) is not None


class TestDamage:
    """What check_ceremony refuses has its own tests; here it must reach the importer and stop it."""

    def test_every_single_file_matters(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        for path, data in dealt.files.items():
            without = {name: content for name, content in dealt.files.items() if name != path}
            if not path.startswith("device/"):  # those may be on their way already
                assert refused(provisioning, replace(dealt, files=without)) == "missing", path
            middle = len(data) // 2
            for damaged in (data[:middle], data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]):
                folder = replace(dealt, files={**dealt.files, path: damaged})
                reason = "wrong_manifest" if path == MANIFEST_NAME else "altered"
                assert refused(provisioning, folder) == reason, path
        assert dealt.import_into(provisioning).new == dealt.key_ids

    def test_a_file_that_nobody_listed(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        assert refused(provisioning, dealt, listing=[*dealt.files, "server/extra.share"]) == "unlisted"

    def test_a_file_exchanged_after_it_was_checked(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """The folder may be on a shared disk, and anybody can seal to this server's public key."""
        path = server_share_path(dealt.key_ids[0])
        reads = 0

        def read(name: str) -> bytes | None:
            nonlocal reads
            reads += name == path
            return dealt.files[server_share_path(dealt.key_ids[1])] if name == path and reads > 1 else dealt.files[name]

        assert refused(provisioning, replace(dealt, files=Exchanging(dealt.files, read))) == "altered"
        assert reads > 1

    @pytest.mark.parametrize("change", ["rp_id", "epoch", "other half's key"])
    def test_a_half_that_does_not_say_what_the_manifest_says(
        self, provisioning: ServiceContext, dealt: Dealt, change: str
    ) -> None:
        """By a dealer whose tool is broken: everything is signed, and the halves would never fit."""
        key, other = dealt.keys[0], dealt.keys[1]
        server = server_recipient(provisioning)
        arguments = {
            "rp_id": (key.server, 0, "bank.example"),
            "epoch": (key.server, 1, "shop.example"),
            "other half's key": (other.server, 0, "shop.example"),
        }[change]
        share, epoch, rp_id = arguments
        package = SharePackage(Role.SERVER, share, epoch, rp_id, None, dealt.manifest.ceremony_id)
        sealed = seal_share(package, server.public_key, server.id)
        reason = refused(provisioning, dealt.with_file(server_share_path(key.key_id), sealed))
        assert reason == ("bad_share" if change == "epoch" else "inconsistent")


class Exchanging(dict[str, bytes]):
    """Files that are not the same each time they are read."""

    def __init__(self, files: dict[str, bytes], read: Callable[[str], bytes | None]) -> None:
        super().__init__(files)
        self._read = read

    def get(self, key: str, default: object = None) -> bytes | None:  # type: ignore[override]
        return self._read(key)


class TestRevisions:
    @pytest.fixture
    def imported(self, provisioning: ServiceContext, dealt: Dealt) -> Dealt:
        dealt.import_into(provisioning)
        return dealt

    @pytest.fixture
    def carols(self, provisioning: ServiceContext) -> Recipient:
        enrol(provisioning, CAROL)
        return device_recipient(CAROL, name="the new phone")[1]

    def rewrapped(self, ctx: ServiceContext, before: Dealt, phones: list[Recipient]) -> Dealt:
        return deal(
            server_recipient(ctx), lambda place: phones[place % 2], before.keys, replaces=before, signer=before.signer
        )

    def test_a_replaced_device_gets_the_halves_that_waited_for_the_old_one(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        with provisioning.store.write() as conn:
            set_credential_status(conn, imported.key_ids[1], "paired")
        folder = self.rewrapped(provisioning, imported, [phones[0], carols])

        done = folder.import_into(provisioning)

        assert done.rebound == (imported.key_ids[1], imported.key_ids[3])
        assert done.known == (imported.key_ids[0], imported.key_ids[2])
        for place in (1, 3):
            row = stored(provisioning, imported.key_ids[place])
            assert row is not None and (row.enrolment_id, row.status) == (CAROL, "provisioned")
            assert open_key_share(provisioning.data_key(row.enrolment_id), row) == imported.keys[place].server
        moves = [event for event in events(provisioning) if event[0] == "provisioned_key_rebound"]
        detail = {"key_id": imported.key_ids[1].hex()}
        assert moves[:2] == [
            ("provisioned_key_rebound", CAROL.hex(), {**detail, "from": BOB.hex()}),
            ("provisioned_key_rebound", BOB.hex(), {**detail, "to": CAROL.hex()}),
        ]
        assert folder.import_into(provisioning).known == folder.key_ids

    @pytest.mark.parametrize("status", ["provisional", "active"])
    def test_a_key_in_use_goes_to_nobody_else(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient, status: str
    ) -> None:
        with provisioning.store.write() as conn:
            set_credential_status(conn, imported.key_ids[3], status)  # type: ignore[arg-type]
        folder = self.rewrapped(provisioning, imported, [phones[0], carols])
        assert refused(provisioning, folder) == "key_in_use"

    def test_a_revoked_key_stays_revoked_whoever_it_is_dealt_to(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        with provisioning.store.write() as conn:
            revoke_credential(conn, imported.key_ids[1])
        done = self.rewrapped(provisioning, imported, [phones[0], carols]).import_into(provisioning)
        assert (done.revoked, done.rebound) == ((imported.key_ids[1],), (imported.key_ids[3],))
        row = stored(provisioning, imported.key_ids[1])
        assert row is not None and (row.status, row.enrolment_id, row.sealed_share) == ("revoked", BOB, None)

    def test_to_a_device_that_is_not_enrolled_nothing_moves(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient]
    ) -> None:
        folder = self.rewrapped(provisioning, imported, [phones[0], device_recipient(CAROL)[1]])
        assert refused(provisioning, folder) == "unknown_enrolment"

    def test_an_older_folder_is_refused_once_a_newer_one_is_here(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        """It would give the halves back to the device that was lost."""
        self.rewrapped(provisioning, imported, [phones[0], carols]).import_into(provisioning)
        assert refused(provisioning, imported) == "stale_revision"

    def test_two_manifests_of_one_revision(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        assert refused(provisioning, imported.signed_again(operators=("Eve",))) == "other_manifest"
        self.rewrapped(provisioning, imported, [phones[0], carols]).import_into(provisioning)
        fork = self.rewrapped(provisioning, imported, phones)
        assert refused(provisioning, fork) == "other_manifest"

    def test_a_revision_that_follows_another_manifest(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        second = self.rewrapped(provisioning, imported, [phones[0], carols])
        third = self.rewrapped(provisioning, second, [phones[0], carols])
        assert refused(provisioning, third) == "broken_chain"
        assert refused(provisioning, second.signed_again(previous=bytes(32))) == "broken_chain"

        second.import_into(provisioning)
        assert third.import_into(provisioning).known == third.key_ids

    def test_a_manifest_that_was_only_written_anew(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        """White space is not signed: a courier who changes it must not cut the chain."""
        text = json.dumps(dict(reversed(json.loads(imported.files[MANIFEST_NAME]).items())), indent=7).encode()
        anew = replace(imported, files={**imported.files, MANIFEST_NAME: text})
        assert anew.import_into(provisioning).known == imported.key_ids
        assert anew.manifest_hash == imported.manifest_hash
        folder = self.rewrapped(provisioning, anew, [phones[0], carols])
        assert folder.import_into(provisioning).rebound == (imported.key_ids[1], imported.key_ids[3])

    def test_a_revision_that_leaves_some_out(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient]
    ) -> None:
        """With number 10,000 nobody could ever follow it."""
        folder = self.rewrapped(provisioning, imported, phones)
        assert refused(provisioning, folder.signed_again(revision=2)) == "broken_chain"
        assert refused(provisioning, folder.signed_again(revision=10_000)) == "broken_chain"
        assert folder.import_into(provisioning).known == imported.key_ids

    @pytest.mark.parametrize("change", ["one more", "one less", "another"])
    def test_a_revision_deals_exactly_the_same_keys(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], change: str
    ) -> None:
        keys = [*imported.keys]
        keys = {"one more": keys, "one less": keys[:-1], "another": keys[:-1]}[change]
        if change != "one less":
            keys = [*keys, number_like_a_key()]
        folder = deal(server_recipient(provisioning), lambda place: phones[place % 2], keys, replaces=imported)
        assert refused(provisioning, folder) == "other_keys"

    def test_another_signer_must_be_named_by_a_person(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        """A pinned key may be that of other ceremonies, whose dealer has no business with these keys."""
        other = Ed25519PrivateKey.generate()
        folder = self.rewrapped(provisioning, imported, [phones[0], carols]).signed_again(other)
        pinned = replace(provisioning.policy, ceremony_keys=frozenset({imported.fingerprint, folder.fingerprint}))
        trusting = replace(provisioning, policy=pinned)

        assert refused(trusting, folder, expected_ceremony_key=None) == "other_signer"

        same = self.rewrapped(provisioning, imported, phones)
        assert same.import_into(trusting, expected_ceremony_key=None).known == same.key_ids
        named = self.rewrapped(provisioning, same, [phones[0], carols]).signed_again(other)
        assert named.import_into(trusting).rebound == (same.key_ids[1], same.key_ids[3])

    def test_a_ceremony_revoked_as_a_whole_takes_no_further_revision(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient]
    ) -> None:
        revoke_ceremony(provisioning, imported.manifest.ceremony_id)
        assert refused(provisioning, self.rewrapped(provisioning, imported, phones)) == "revoked_ceremony"
        assert imported.import_into(provisioning).revoked == imported.key_ids

    def test_a_server_that_never_saw_the_first_folder_takes_the_newest(
        self, provisioning: ServiceContext, dealt: Dealt, phones: list[Recipient]
    ) -> None:
        assert self.rewrapped(provisioning, dealt, phones).import_into(provisioning).new == dealt.key_ids
        assert refused(provisioning, dealt) == "stale_revision"

    @pytest.mark.parametrize("change", [{"rp_id": "bank.example"}, {"not_after": 2_000_000_000}])
    def test_a_revision_changes_neither_relying_party_nor_expiry(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], change: dict[str, object]
    ) -> None:
        folder = deal(
            server_recipient(provisioning),
            lambda place: phones[place % 2],
            imported.keys,
            replaces=imported,
            **change,  # type: ignore[arg-type]
        )
        assert refused(provisioning, folder) == "changed_key"

    @pytest.mark.parametrize("status", ["provisioned", "paired", "provisional"])
    @pytest.mark.parametrize("moved", [False, True])
    def test_a_revision_with_another_split(
        self,
        provisioning: ServiceContext,
        imported: Dealt,
        phones: list[Recipient],
        carols: Recipient,
        status: str,
        moved: bool,
    ) -> None:
        """A rewrap seals the same half again; another half is another key in all but name."""
        with provisioning.store.write() as conn:
            set_credential_status(conn, imported.key_ids[1], status)  # type: ignore[arg-type]
        keys = [*imported.keys]
        keys[1] = replace(keys[1], server=replace(keys[1].server, value=keys[1].server.value ^ 2))
        devices = [phones[0], carols if moved else phones[1]]
        folder = deal(server_recipient(provisioning), lambda place: devices[place % 2], keys, replaces=imported)
        assert refused(provisioning, folder) == "changed_key"

    def test_a_key_in_use_has_moved_on_from_the_half_that_was_dealt(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient]
    ) -> None:
        """Its share is refreshed with each login, so a rewrap of the others must not stumble over it."""
        share = replace(imported.keys[1].server, value=imported.keys[1].server.value + 2)
        with provisioning.store.write() as conn:
            sealed = seal_key_share(provisioning.data_key(BOB), imported.key_ids[1], share)
            set_credential_share(conn, imported.key_ids[1], sealed, "active")
        assert self.rewrapped(provisioning, imported, phones).import_into(provisioning).known == imported.key_ids
        row = stored(provisioning, imported.key_ids[1])
        assert row is not None and (row.status, row.sealed_share) == ("active", sealed)
