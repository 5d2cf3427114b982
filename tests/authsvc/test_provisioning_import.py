"""Importing a ceremony: all of it or nothing, as often as one likes, and only what fits this server."""

from __future__ import annotations

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

from authsvc.errors import Refused
from authsvc.services.context import ServiceContext
from authsvc.services.provisioning_refusals import ProvisioningRefused
from authsvc.services.secrets_at_rest import open_key_share
from authsvc.store.credentials import CredentialRow, insert_credential, revoke_credential, set_credential_status
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
            assert open_key_share(provisioning.sealer, row) == key.server
        assert events(provisioning)[-1] == (
            "shares_imported",
            None,
            {"ceremony_id": dealt.manifest.ceremony_id.hex(), "revision": 0, "new": 4, "known": 0, "rebound": 0},
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
        assert open_key_share(provisioning.sealer, row) == other.server


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

    def test_an_id_that_a_device_took_for_a_key_of_its_own(self, provisioning: ServiceContext, dealt: Dealt) -> None:
        """It cannot be by chance, and taking its row over would hand a share from one enrolment to another."""
        with provisioning.store.write() as conn:
            insert_credential(
                conn,
                CredentialRow(
                    dealt.key_ids[0], BOB, "shop.example", -257, b"\xff" * 256, 65537, b"sealed", "provisional", 0, 1.0
                ),
            )
        assert refused(provisioning, dealt) == "other_credential"


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
            assert open_key_share(provisioning.sealer, row) == imported.keys[place].server
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

    def test_a_revision_with_another_split_rebinds_nothing(
        self, provisioning: ServiceContext, imported: Dealt, phones: list[Recipient], carols: Recipient
    ) -> None:
        """A rewrap seals the same half again; another half is another key in all but name."""
        keys = [replace(key, server=replace(key.server, value=key.server.value ^ 2)) for key in imported.keys]
        folder = deal(
            server_recipient(provisioning), lambda place: [phones[0], carols][place % 2], keys, replaces=imported
        )
        assert refused(provisioning, folder) == "changed_key"
