"""Dealt keys in the wrong hands: whoever lacks the enrolment, the half or the ceremony's trust gets nothing stored."""

from __future__ import annotations

import hashlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacker import Attacker
from real_server import ThreadServer, thread_server

_AUTHSVC_TESTS = str(Path(__file__).parent.parent / "authsvc")
if _AUTHSVC_TESTS not in sys.path:
    sys.path.append(_AUTHSVC_TESTS)

from authsvc_dealer import (  # noqa: E402
    Dealt,
    SplitKey,
    deal,
    device_recipient,
    events,
    everything,
    real_key,
    server_recipient,
    statement,
    stored,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402

from authsvc.services import administration, key_revocation, login, provisioned_keys  # noqa: E402
from authsvc.services.provisioning_refusals import ProvisioningRefused  # noqa: E402
from authsvc.services.secrets_at_rest import open_key_share  # noqa: E402
from device_sdk.vault.state import Credential  # noqa: E402
from mpc.login.device_side import Match  # noqa: E402
from mpc.login.enrolment_messages import AddCredential, RevokeCredential  # noqa: E402
from mpc.login.messages import Message3  # noqa: E402
from mpc.login.provisioned_messages import AdoptKey, PairShares, pairing_proof  # noqa: E402
from mpc.provisioning.ceremony import CeremonyError  # noqa: E402
from mpc.provisioning.manifest import server_share_path  # noqa: E402
from mpc.threshold_rsa.encodings import Algorithm  # noqa: E402
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share  # noqa: E402
from mpc.threshold_rsa.shares import KeyShare  # noqa: E402

SHOP = "shop.example"
SERVER_ID = "auth.example"
NOT_USABLE = (404, "provisioned_key_not_usable")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def victim(server: ThreadServer) -> Iterator[Attacker]:
    with Attacker.enrolled(server, person=2) as enrolled:
        yield enrolled


@pytest.fixture
def thief(server: ThreadServer) -> Iterator[Attacker]:
    """Enrolled here himself, and with whatever else a test gives him."""
    with Attacker.enrolled(server) as enrolled:
        yield enrolled


def folder_for(server: ThreadServer, *holders: Attacker, **arguments: Any) -> Dealt:
    """A ceremony with one key for each holder, not imported yet."""
    phones = [device_recipient(holder.id)[1] for holder in holders]
    keys = [real_key() for _ in holders]
    return deal(server_recipient(server.context), phones.__getitem__, keys, **arguments)


def dealt_to(server: ThreadServer, *holders: Attacker, **arguments: Any) -> Dealt:
    folder = folder_for(server, *holders, **arguments)
    folder.import_into(server.context)
    return folder


def pair_body(holder: Attacker, share: KeyShare, *, key_id: bytes | None = None, proof: bytes | None = None) -> bytes:
    proof = proof or pairing_proof(share, statement(share, holder.id))
    return PairShares(holder.id, key_id or share.key.key_id, proof).encode()


def pair(holder: Attacker, share: KeyShare, **changes: Any) -> tuple[int, str | None]:
    return told(holder, "/v1/credentials/pair", pair_body(holder, share, **changes))


def adopt(holder: Attacker, key_id: bytes) -> tuple[int, str | None]:
    return told(holder, "/v1/credentials/adopt", AdoptKey(holder.id, key_id, int(Algorithm.RS256)).encode())


def told(holder: Attacker, path: str, body: bytes) -> tuple[int, str | None]:
    answer = holder.post(path, body)
    return answer.status_code, None if answer.status_code == 200 else answer.json()["code"]


def noted(holder: Attacker, key: SplitKey) -> Credential:
    credential = Credential(key.key_id, SHOP, b"u", "u", "u", Algorithm.RS256, key.device, 0, True, True, 0)
    holder.shares[key.key_id] = key.device
    holder.credentials.append(credential)
    return credential


def registered(server: ThreadServer, holder: Attacker, **arguments: Any) -> tuple[SplitKey, Credential]:
    """A dealt key in use."""
    key = dealt_to(server, holder, **arguments).keys[0]
    assert pair(holder, key.device) == adopt(holder, key.key_id) == (200, None)
    credential = noted(holder, key)
    holder.succeed(holder.prepare(credential, kind="create"))
    return key, credential


class TestOtherPeoplesKeys:
    def test_a_thief_of_the_devices_half_has_no_enrolment_for_it(
        self, server: ThreadServer, thief: Attacker, victim: Attacker
    ) -> None:
        """The share file was copied on its way and even opened; the key was dealt to another enrolment."""
        key = dealt_to(server, victim).keys[0]
        before = everything(server.context)

        assert pair(thief, key.device) == NOT_USABLE
        victims_proof = pairing_proof(key.device, statement(key.device, victim.id))
        assert pair(thief, key.device, proof=victims_proof) == NOT_USABLE
        assert adopt(thief, key.key_id) == NOT_USABLE
        assert everything(server.context) == before

        assert pair(victim, key.device) == (200, None)
        after_pairing = everything(server.context)
        assert adopt(thief, key.key_id) == NOT_USABLE
        assert everything(server.context) == after_pairing
        assert adopt(victim, key.key_id) == (200, None)
        outcome = thief.try_login(self.create_login(thief, key))
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    @staticmethod
    def create_login(thief: Attacker, key: SplitKey) -> bytes:
        return thief.prepare(noted(thief, key), kind="create", sign_count=1).message_1

    def test_a_body_that_names_the_victim(self, server: ThreadServer, thief: Attacker, victim: Attacker) -> None:
        key = dealt_to(server, victim).keys[0]
        before = everything(server.context)
        for path, body in (
            ("/v1/credentials/pair", pair_body(victim, key.device)),
            ("/v1/credentials/adopt", AdoptKey(victim.id, key.key_id, -257).encode()),
        ):
            answer = thief.post(path, body)
            assert (answer.status_code, answer.json()["field"]) == (400, "enrolment_id")
        assert everything(server.context) == before

    def test_taking_the_id_of_a_dealt_key_or_giving_it_up(
        self, server: ThreadServer, thief: Attacker, victim: Attacker
    ) -> None:
        key = dealt_to(server, victim).keys[0]
        before = everything(server.context)
        own = real_key().server
        message = AddCredential(
            thief.id, key.key_id, SHOP, -257, own.key.modulus_bytes, own.key.exponent, own.to_bytes()
        )

        assert told(thief, "/v1/credentials", message.encode()) == (409, "credential_conflict")
        assert told(thief, "/v1/credentials/revoke", RevokeCredential(thief.id, key.key_id).encode()) == (200, None)

        assert everything(server.context) == before
        assert pair(victim, key.device) == (200, None)

    def test_only_a_key_that_waits_for_the_asker_costs_arithmetic(
        self, server: ThreadServer, thief: Attacker, victim: Attacker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither can the clock tell an unknown id from somebody else's, nor does asking burn the server's time."""
        theirs, own = dealt_to(server, victim).keys[0], dealt_to(server, thief).keys[0]
        checked = []
        real = provisioned_keys.pairing_proof_is_valid

        def counted(share: KeyShare, *arguments: Any) -> bool:
            checked.append(share.key.key_id)
            return real(share, *arguments)

        monkeypatch.setattr(provisioned_keys, "pairing_proof_is_valid", counted)
        bodies = {thief.post("/v1/credentials/pair", pair_body(thief, theirs.device)).content}
        bodies.add(thief.post("/v1/credentials/pair", pair_body(thief, real_key().device)).content)
        assert checked == []
        bodies.add(thief.post("/v1/credentials/pair", pair_body(thief, own.device, proof=bytes(32))).content)
        assert checked == [own.key_id]
        assert len(bodies) == 1


class TestWrongHalves:
    @pytest.mark.parametrize(
        "wrong",
        [
            lambda key, holder: pairing_proof(real_key().device, statement(key.device, holder.id)),
            lambda key, holder: pairing_proof(
                KeyShare(key.device.key, key.device.value - 1), statement(key.device, holder.id)
            ),
            lambda key, holder: pairing_proof(key.server, statement(key.server, holder.id)),
            lambda key, holder: pairing_proof(key.device, statement(key.device, holder.id, "other.example")),
            lambda key, holder: pairing_proof(key.device, statement(key.device, bytes(16))),
            lambda key, holder: pairing_proof(
                key.device, replace(statement(key.device, holder.id), rp_id="other.example")
            ),
            lambda key, holder: pairing_proof(key.device, replace(statement(key.device, holder.id), not_after=2**33)),
            lambda key, holder: secrets.token_bytes(32),
        ],
        ids=[
            "another key's",
            "one off",
            "the server's",
            "for another server",
            "for another enrolment",
            "for another site",
            "without its end",
            "noise",
        ],
    )
    def test_a_proof_that_does_not_fit_pairs_nothing(
        self, server: ThreadServer, thief: Attacker, wrong: Callable[[SplitKey, Attacker], bytes]
    ) -> None:
        key = dealt_to(server, thief).keys[0]
        before = everything(server.context)
        assert pair(thief, key.device, proof=wrong(key, thief)) == NOT_USABLE
        assert adopt(thief, key.key_id) == NOT_USABLE
        assert everything(server.context) == before
        assert pair(thief, key.device) == (200, None)

    def test_adopting_without_having_shown_the_half(self, server: ThreadServer, thief: Attacker) -> None:
        """A stolen request key alone registers no credential."""
        key = dealt_to(server, thief).keys[0]
        before = everything(server.context)
        assert adopt(thief, key.key_id) == NOT_USABLE
        assert everything(server.context) == before

    def test_a_waiting_half_that_was_moved_in_the_database(
        self, server: ThreadServer, thief: Attacker, victim: Attacker
    ) -> None:
        """Somebody with write access gives the thief the victim's row; the share opens for its own enrolment only."""
        key = dealt_to(server, victim).keys[0]
        with server.context.store.write() as conn:
            conn.exec_driver_sql("UPDATE credentials SET enrolment_id = ? WHERE id = ?", (thief.id, key.key_id))
        before = everything(server.context)
        assert pair(thief, key.device) == (500, "internal")
        assert everything(server.context) == before


class TestForgedCeremonies:
    def refused(self, server: ThreadServer, folder: Dealt, **arguments: Any) -> str:
        before = everything(server.context)
        with pytest.raises((ProvisioningRefused, CeremonyError)) as raised:
            folder.import_into(server.context, **arguments)
        assert everything(server.context) == before
        return str(raised.value.reason)

    def test_a_strangers_ceremony_for_our_own_recipient(self, server: ThreadServer, victim: Attacker) -> None:
        """Everybody may know the public key; a whole folder made with it is in order but for its signer."""
        real, forged = folder_for(server, victim), folder_for(server, victim)
        reason = self.refused(server, forged, expected_ceremony_key=real.fingerprint)
        assert reason == "untrusted_ceremony"
        assert self.refused(server, forged, expected_ceremony_key=None) == "untrusted_ceremony"

    def test_the_real_manifest_signed_again_by_a_stranger(self, server: ThreadServer, victim: Attacker) -> None:
        real = folder_for(server, victim)
        forged = real.signed_again(Ed25519PrivateKey.generate(), operators=("Ann",))
        assert self.refused(server, forged, expected_ceremony_key=real.fingerprint) == "untrusted_ceremony"

    def test_a_half_sealed_to_us_by_a_stranger_in_a_real_folder(self, server: ThreadServer, victim: Attacker) -> None:
        """HPKE's base mode says nothing about the sender: only the hash in the signed manifest does."""
        real = folder_for(server, victim)
        key, own = real.keys[0], server_recipient(server.context)
        share = KeyShare(key.server.key, key.server.value + 2)
        package = SharePackage(Role.SERVER, share, 0, SHOP, None, real.manifest.ceremony_id)
        path = server_share_path(key.key_id)
        planted = {**real.files, path: seal_share(package, own.public_key, own.id)}
        assert self.refused(server, replace(real, files=planted)) == "altered"

    def test_files_exchanged_between_keys_and_between_ceremonies(
        self, server: ThreadServer, thief: Attacker, victim: Attacker
    ) -> None:
        real, other = folder_for(server, thief, victim), folder_for(server, thief, victim)
        one, two = (server_share_path(key_id) for key_id in real.key_ids)
        swapped = {**real.files, one: real.files[two], two: real.files[one]}
        assert self.refused(server, replace(real, files=swapped)) == "altered"
        foreign = {**real.files, one: other.files[server_share_path(other.key_ids[0])]}
        assert self.refused(server, replace(real, files=foreign)) == "altered"
        # Even a dealer's own mix-up, hashes and signature in order.
        hashes = {path: hashlib.sha256(data).digest() for path, data in swapped.items() if path in real.manifest.files}
        mixed = replace(real, files=swapped).signed_again(files=hashes)
        assert self.refused(server, mixed) == "inconsistent"

    def test_a_lost_phone_gets_nothing_back_by_replaying_the_older_folder(
        self, server: ThreadServer, thief: Attacker, victim: Attacker
    ) -> None:
        """The thief has the victim's old phone; the halves were rewrapped for the new one."""
        before = dealt_to(server, thief)
        assert pair(thief, before.keys[0].device) == (200, None)
        phone = device_recipient(victim.id)[1]
        newer = deal(server_recipient(server.context), lambda _: phone, before.keys, replaces=before)
        assert newer.import_into(server.context).rebound == before.key_ids

        assert self.refused(server, before) == "stale_revision"
        assert pair(thief, before.keys[0].device) == adopt(thief, before.key_ids[0]) == NOT_USABLE
        assert adopt(victim, before.key_ids[0]) == NOT_USABLE  # the new phone has yet to show its half
        assert pair(victim, before.keys[0].device) == (200, None)


class TestTakenIds:
    """A key id is in clear in every share file, so a thief can put a credential of his own under it beforehand."""

    @pytest.mark.parametrize("reached", ["provisional", "answered", "active", "revoked by the operator"])
    def test_no_device_stops_a_ceremony(
        self, server: ThreadServer, thief: Attacker, victim: Attacker, reached: str
    ) -> None:
        folder = folder_for(server, victim)
        key = folder.keys[0]
        taken = thief.add_credential("bank.example", credential_id=key.key_id)
        if reached in ("active", "revoked by the operator"):
            thief.succeed(thief.prepare(taken, kind="create"))
        if reached == "answered":
            login_ = thief.prepare(taken, kind="create")
            match = login_.finish(thief.try_login(login_.message_1).body)
            assert isinstance(match, Match)
        if reached == "revoked by the operator":
            administration.revoke_credential(server.context, key.key_id)

        done = folder.import_into(server.context)

        assert (done.new, done.displaced) == (folder.key_ids, folder.key_ids)
        if reached == "answered":
            # Its confirmation would refresh whatever share lies under that id by then.
            answer = thief.post("/v1/confirmations", Message3(thief.id, match.confirmation).encode())
            assert (answer.status_code, answer.json()["code"]) == (409, "unknown_login")
        row = stored(server.context, key.key_id)
        assert row is not None and (row.status, row.enrolment_id) == ("provisioned", victim.id)
        assert open_key_share(server.context.data_key(row.enrolment_id), row) == key.server
        displaced = [event for event in events(server.context) if event[0] == "credential_displaced"][-1]
        assert displaced[1] == thief.id.hex() and displaced[2]["key_id"] == key.key_id.hex()
        assert thief.try_login(thief.prepare(taken).message_1).told == (403, "credential_not_usable")
        assert pair(victim, key.device) == adopt(victim, key.key_id) == (200, None)
        victim.succeed(victim.prepare(noted(victim, key), kind="create"))

    def test_a_displaced_login_takes_no_other_with_it(
        self, server: ThreadServer, thief: Attacker, victim: Attacker
    ) -> None:
        """Only what was answered for the taken id is forgotten."""
        folder = folder_for(server, victim)
        own = thief.register("bank.example")
        thief.add_credential("bank.example", credential_id=folder.key_ids[0])
        login_ = thief.prepare(own)
        match = login_.finish(thief.try_login(login_.message_1).body)
        assert isinstance(match, Match)
        assert folder.import_into(server.context).displaced == folder.key_ids
        thief.confirm(match)


class TestDeadKeys:
    def test_a_key_that_expires_between_snapshot_and_commit(
        self, server: ThreadServer, victim: Attacker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The check that counts is the one in the transaction; nothing is told, nothing counted."""
        _, credential = registered(server, victim, not_after=int(time.time()) + 3600)
        victim.succeed(victim.prepare(credential))
        computed = []
        decide, clock = login.decide, server.context.clock

        def slow(*arguments: Any, **named: Any) -> Any:
            verdict = decide(*arguments, **named)
            computed.append(type(verdict).__name__)
            object.__setattr__(server.context, "clock", lambda: time.time() + 7200)
            return verdict

        monkeypatch.setattr(login, "decide", slow)
        try:
            outcome = victim.try_login(victim.prepare(credential).message_1)
        finally:
            object.__setattr__(server.context, "clock", clock)
        assert computed == ["Answer"]
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    def test_a_key_revoked_between_snapshot_and_commit(
        self, server: ThreadServer, victim: Attacker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key, credential = registered(server, victim)
        decide = login.decide

        def slow(*arguments: Any, **named: Any) -> Any:
            verdict = decide(*arguments, **named)
            key_revocation.revoke_keys(server.context, [key_revocation.NamedKey(key.key_id, "")])
            return verdict

        monkeypatch.setattr(login, "decide", slow)
        outcome = victim.try_login(victim.prepare(credential).message_1)
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    def test_a_half_that_moves_to_another_device_while_the_old_one_pairs(
        self, server: ThreadServer, thief: Attacker, victim: Attacker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The proof was right when it was checked; what is written must be about the row as it is then."""
        folder = dealt_to(server, thief)
        phone = device_recipient(victim.id)[1]
        newer = deal(server_recipient(server.context), lambda _: phone, folder.keys, replaces=folder)
        check = provisioned_keys.pairing_proof_is_valid

        def slow(*arguments: Any) -> bool:
            valid = check(*arguments)
            newer.import_into(server.context)
            return valid

        monkeypatch.setattr(provisioned_keys, "pairing_proof_is_valid", slow)
        assert pair(thief, folder.keys[0].device) == NOT_USABLE
        row = server.database.one("SELECT status, enrolment_id FROM credentials WHERE id = ?", folder.key_ids[0])
        assert row == {"status": "provisioned", "enrolment_id": victim.id}

    def test_a_half_that_moved_away_and_back_while_the_device_pairs(
        self, server: ThreadServer, thief: Attacker, victim: Attacker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The row looks as it did, and yet it is another: a proof counts for the share it was checked against."""
        folder = dealt_to(server, thief)
        phones = [device_recipient(holder.id)[1] for holder in (victim, thief)]
        away = deal(server_recipient(server.context), lambda _: phones[0], folder.keys, replaces=folder)
        back = deal(server_recipient(server.context), lambda _: phones[1], folder.keys, replaces=away)
        check = provisioned_keys.pairing_proof_is_valid

        def slow(*arguments: Any) -> bool:
            valid = check(*arguments)
            away.import_into(server.context)
            back.import_into(server.context)
            return valid

        monkeypatch.setattr(provisioned_keys, "pairing_proof_is_valid", slow)
        assert pair(thief, folder.keys[0].device) == NOT_USABLE
        row = server.database.one("SELECT status, enrolment_id FROM credentials WHERE id = ?", folder.key_ids[0])
        assert row == {"status": "provisioned", "enrolment_id": thief.id}
        monkeypatch.undo()
        assert pair(thief, folder.keys[0].device) == (200, None)

    def test_the_algorithm_changed_while_a_registration_was_computed(
        self, server: ThreadServer, thief: Attacker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A signature of one algorithm must not go out for a credential that is of the other by then."""
        key = dealt_to(server, thief).keys[0]
        assert pair(thief, key.device) == adopt(thief, key.key_id) == (200, None)
        credential = noted(thief, key)
        decide = login.decide

        def slow(*arguments: Any, **named: Any) -> Any:
            verdict = decide(*arguments, **named)
            body = AdoptKey(thief.id, key.key_id, int(Algorithm.PS256)).encode()
            assert told(thief, "/v1/credentials/adopt", body) == (200, None)
            return verdict

        monkeypatch.setattr(login, "decide", slow)
        outcome = thief.try_login(thief.prepare(credential, kind="create").message_1)
        # Computed again with the new algorithm, under which its own check fails. Not "bad_authenticator_data", which
        # would mean that the verdict of the old algorithm went as far as the answer.
        assert outcome.told == (400, "malformed") and (outcome.counted, outcome.login_state) == (True, "failed")
        monkeypatch.undo()
        assert adopt(thief, key.key_id) == (200, None)
        thief.succeed(thief.prepare(credential, kind="create"))

    def test_a_revoked_key_imported_again_stays_dead(self, server: ThreadServer, victim: Attacker) -> None:
        folder = dealt_to(server, victim)
        key = folder.keys[0]
        assert pair(victim, key.device) == adopt(victim, key.key_id) == (200, None)
        credential = noted(victim, key)
        victim.succeed(victim.prepare(credential, kind="create"))
        key_revocation.revoke_ceremony(server.context, folder.manifest.ceremony_id)

        assert folder.import_into(server.context).revoked == (key.key_id,)
        phone = device_recipient(victim.id)[1]
        newer = deal(server_recipient(server.context), lambda _: phone, folder.keys, replaces=folder)
        with pytest.raises(ProvisioningRefused) as refused:
            newer.import_into(server.context)
        assert refused.value.reason == "revoked_ceremony"

        assert pair(victim, key.device) == adopt(victim, key.key_id) == NOT_USABLE
        outcome = victim.try_login(victim.prepare(credential).message_1)
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)
        row = server.database.one("SELECT status, sealed_share FROM credentials WHERE id = ?", key.key_id)
        assert row == {"status": "revoked", "sealed_share": None}


class TestClones:
    def test_a_copied_phone_that_registers_first_is_noticed(self, server: ThreadServer, victim: Attacker) -> None:
        """Request key, template share and dealt half were copied. Who is first gets on; the second one shows it."""
        victim.register(rp_id="bank.example")
        key = dealt_to(server, victim).keys[0]
        assert pair(victim, key.device) == (200, None)
        copy = replace(victim, shares=dict(victim.shares), credentials=list(victim.credentials))

        assert adopt(copy, key.key_id) == (200, None)
        copy.succeed(copy.prepare(noted(copy, key), kind="create"))
        assert victim.status() == ("active", None)

        # The original finds its key in use, and its next login is of an epoch that is over.
        before = everything(server.context)["credentials"]
        assert adopt(victim, key.key_id) == pair(victim, key.device) == NOT_USABLE
        assert everything(server.context)["credentials"] == before
        late = victim.prepare(ot_index=copy.state.ot_index + 1)
        assert victim.try_login(late.message_1).told == (403, "quarantined")
        assert victim.status() == ("quarantined", "clone_suspected")
        # And from then on the copy gets nothing either.
        assert copy.try_login(copy.prepare(copy.credentials[-1]).message_1).told == (403, "not_active")

    def test_two_phones_with_one_half_cannot_both_register(self, server: ThreadServer, victim: Attacker) -> None:
        key = dealt_to(server, victim).keys[0]
        assert pair(victim, key.device) == adopt(victim, key.key_id) == (200, None)
        copy = replace(victim, shares=dict(victim.shares), credentials=list(victim.credentials))
        mine, theirs = noted(victim, key), noted(copy, key)
        first = victim.prepare(mine, kind="create")
        second = copy.prepare(theirs, kind="create", ot_index=victim.state.ot_index + 1, sign_count=2)
        answers = [victim.try_login(first.message_1), copy.try_login(second.message_1)]
        matches = [login_.finish(answer.body) for login_, answer in zip((first, second), answers, strict=True)]
        assert all(isinstance(match, Match) for match in matches)

        victim.confirm(matches[0])  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match="quarantined"):
            copy.confirm(matches[1])  # type: ignore[arg-type]
        assert victim.status() == ("quarantined", "clone_proved")


def test_what_lies_on_the_servers_disk_holds_no_half_in_clear(tmp_path: Path) -> None:
    """Database, log and index right after an import, and the recipient's private key with them."""
    with thread_server(tmp_path) as server, Attacker.enrolled(server) as holder:
        folder = dealt_to(server, holder)
        pair(holder, folder.keys[0].device)
        adopt(holder, folder.key_ids[0])
        files = server.database.file_bytes()

        key = folder.keys[0]
        assert key.server.key.modulus_bytes[100:124] in files, "the search finds what is there"
        for share in (key.server, key.device):
            magnitude = abs(share.value).to_bytes(300, "big")
            for needle in (magnitude[100:124], magnitude[::-1][100:124], magnitude.hex()[200:248].encode()):
                assert needle not in files
            assert str(abs(share.value))[100:150].encode() not in files
