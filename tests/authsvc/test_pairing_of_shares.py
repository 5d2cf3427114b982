"""From the dealt half to the first login, over HTTP, with a device whose every request a test decides."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from attacker import Attacker, flipped
from authsvc_dealer import (
    Dealt,
    SplitKey,
    deal,
    device_recipient,
    events,
    real_key,
    server_recipient,
    statement,
    stored,
)
from real_server import ThreadServer, thread_server

from authsvc.api.admin import credential_document
from authsvc.errors import Refused
from authsvc.services import administration, key_revocation, provisioned_keys, rate_limits, recovery
from authsvc.services.key_revocation import NamedKey
from authsvc.services.leases import Leases
from authsvc.store.credentials import CredentialRow, count_credentials
from authsvc.store.enrolments import load_enrolment
from device_sdk.vault.state import Credential
from mpc.login.device_side import Match
from mpc.login.enrolment_messages import Accepted, AddCredential, RevokeCredential
from mpc.login.provisioned_messages import AdoptKey, PairShares, pairing_proof
from mpc.primitives import base64url
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.shares import KeyShare

SHOP = "shop.example"
ALLOWANCE = rate_limits.PAIRING_PROOFS.burst
NOT_USABLE = (404, "provisioned_key_not_usable")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def holder(server: ThreadServer) -> Iterator[Attacker]:
    """An enrolled device without any credential."""
    with Attacker.enrolled(server) as enrolled:
        yield enrolled


def dealt_to(server: ThreadServer, *holders: Attacker, not_after: int | None = None, rp_id: str = SHOP) -> Dealt:
    """One real key for each of them, imported by the server."""
    keys = [real_key() for _ in holders]
    phones = [device_recipient(each.id)[1] for each in holders]
    folder = deal(server_recipient(server.context), phones.__getitem__, keys, not_after=not_after, rp_id=rp_id)
    folder.import_into(server.context)
    return folder


def pair(holder: Attacker, share: KeyShare, *, key_id: bytes | None = None, **changes: Any) -> tuple[int, str | None]:
    message = PairShares(holder.id, key_id or share.key.key_id, pairing_proof(share, statement(share, holder.id)))
    return told(holder, "/v1/credentials/pair", replace(message, **changes).encode())


def adopt(holder: Attacker, key_id: bytes, algorithm: Algorithm = Algorithm.RS256) -> tuple[int, str | None]:
    return told(holder, "/v1/credentials/adopt", AdoptKey(holder.id, key_id, int(algorithm)).encode())


def told(holder: Attacker, path: str, body: bytes) -> tuple[int, str | None]:
    answer = holder.post(path, body)
    if answer.status_code != 200:
        return answer.status_code, answer.json()["code"]
    accepted = Accepted.decode(answer.content)
    row = holder.database.one("SELECT epoch, last_index FROM enrolments WHERE id = ?", holder.id)
    assert (accepted.epoch, accepted.last_index) == (row["epoch"], row["last_index"])
    return 200, None


def credential_of(holder: Attacker, key: SplitKey, algorithm: Algorithm = Algorithm.RS256) -> Credential:
    """The device's own note of the provisioned key."""
    credential = Credential(key.key_id, SHOP, b"u", "u", "u", algorithm, key.device, 0, True, True, 0)
    holder.shares[key.key_id] = key.device
    holder.credentials.append(credential)
    return credential


def row_of(server: ThreadServer, key_id: bytes) -> CredentialRow:
    row = stored(server.context, key_id)
    assert row is not None
    return row


@contextmanager
def limited(server: ThreadServer, **policy: Any) -> Iterator[None]:
    """The running server under another policy."""
    before = server.context.policy
    object.__setattr__(server.context, "policy", replace(before, **policy))
    try:
        yield
    finally:
        object.__setattr__(server.context, "policy", before)


@contextmanager
def allowance_of(proofs: int) -> Iterator[None]:
    before = provisioned_keys.PAIRING_PROOFS
    provisioned_keys.PAIRING_PROOFS = replace(before, burst=proofs)
    try:
        yield
    finally:
        provisioned_keys.PAIRING_PROOFS = before


class TestTheWholeWay:
    @pytest.mark.parametrize("algorithm", list(Algorithm))
    def test_a_dealt_key_registers_and_logs_in(
        self, server: ThreadServer, holder: Attacker, algorithm: Algorithm
    ) -> None:
        key = dealt_to(server, holder).keys[0]

        assert pair(holder, key.device) == (200, None)
        assert row_of(server, key.key_id).status == "paired"
        assert adopt(holder, key.key_id, algorithm) == (200, None)
        assert (row_of(server, key.key_id).status, row_of(server, key.key_id).algorithm) == (
            "provisional",
            int(algorithm),
        )
        credential = credential_of(holder, key, algorithm)
        holder.succeed(holder.prepare(credential, kind="create"))
        assert row_of(server, key.key_id).status == "active"
        for _ in range(2):
            holder.succeed(holder.prepare(credential))

        names = [name for name, owner, _ in events(server.context) if owner == holder.id.hex()]
        told = [name for name in names if not name.startswith("login_")]
        assert told == ["enrolled", "provisioned_key_paired", "provisioned_key_adopted", "credential_activated"]

    def test_a_lost_answer_to_either_request_costs_nothing(self, server: ThreadServer, holder: Attacker) -> None:
        key = dealt_to(server, holder).keys[0]
        assert [pair(holder, key.device) for _ in range(3)] == [(200, None)] * 3
        assert [adopt(holder, key.key_id) for _ in range(3)] == [(200, None)] * 3
        names = [name for name, owner, _ in events(server.context) if owner == holder.id.hex()]
        assert names == ["enrolled", "provisioned_key_paired", "provisioned_key_adopted"]

    def test_a_failed_match_leaves_all_ready_for_another_try(self, server: ThreadServer, holder: Attacker) -> None:
        key = dealt_to(server, holder).keys[0]
        pair(holder, key.device)
        adopt(holder, key.key_id)
        credential = credential_of(holder, key)

        wrong = holder.prepare(credential, kind="create", probe=flipped(holder.template, 300))
        answered = holder.try_login(wrong.message_1)
        assert not isinstance(wrong.finish(answered.body), Match)
        assert row_of(server, key.key_id).status == "provisional"
        assert adopt(holder, key.key_id) == (200, None)
        holder.succeed(holder.prepare(credential, kind="create"))
        assert row_of(server, key.key_id).status == "active"

    def test_before_it_is_adopted_nobody_signs_with_it(self, server: ThreadServer, holder: Attacker) -> None:
        key = dealt_to(server, holder).keys[0]
        credential = credential_of(holder, key)
        for step in (lambda: None, lambda: pair(holder, key.device)):
            step()
            for kind in ("create", "get"):
                outcome = holder.try_login(holder.prepare(credential, kind=kind).message_1)
                assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    def test_a_half_taken_again_while_the_key_is_registered(self, server: ThreadServer, holder: Attacker) -> None:
        """A vault restored from before the import is given its half again; the counter must not go back with it."""
        key = dealt_to(server, holder).keys[0]
        pair(holder, key.device)
        adopt(holder, key.key_id, Algorithm.PS256)
        credential = credential_of(holder, key, Algorithm.PS256)
        holder.try_login(
            holder.prepare(credential, kind="create", sign_count=5, probe=flipped(holder.template, 300)).message_1
        )
        proof = pairing_proof(key.device, statement(key.device, holder.id))

        answer = holder.post("/v1/credentials/pair", PairShares(holder.id, key.key_id, proof).encode())

        assert Accepted.decode(answer.content).sign_counts == ((key.key_id, 5),)
        row = row_of(server, key.key_id)
        assert (row.status, row.algorithm) == ("provisional", int(Algorithm.PS256))
        wrong = KeyShare(key.device.key, key.device.value - 2)
        assert pair(holder, wrong) == NOT_USABLE
        holder.succeed(holder.prepare(credential, kind="create", sign_count=6))

    def test_another_algorithm_until_an_answer_is_out(self, server: ThreadServer, holder: Attacker) -> None:
        """The signature that went out is of the algorithm that was registered; confirming it must activate that one."""
        key = dealt_to(server, holder).keys[0]
        pair(holder, key.device)
        assert adopt(holder, key.key_id) == (200, None)
        assert adopt(holder, key.key_id, Algorithm.PS256) == (200, None)
        assert adopt(holder, key.key_id) == (200, None)
        login = holder.prepare(credential_of(holder, key), kind="create")
        answered = holder.try_login(login.message_1)

        assert adopt(holder, key.key_id, Algorithm.PS256) == (409, "wrong_state")
        assert adopt(holder, key.key_id) == (200, None)
        assert row_of(server, key.key_id).algorithm == int(Algorithm.RS256)
        match = login.finish(answered.body)
        assert isinstance(match, Match)
        holder.confirm(match)
        assert row_of(server, key.key_id).status == "active"

    def test_the_other_kinds_of_key_go_on_as_before(self, server: ThreadServer, holder: Attacker) -> None:
        own = holder.register()
        key = dealt_to(server, holder, rp_id="bank.example").keys[0]
        assert pair(holder, key.device) == (200, None)
        assert adopt(holder, own.credential_id[:32]) == NOT_USABLE
        assert holder.still_works()


class TestRefusals:
    def test_all_that_does_not_fit_looks_alike(self, server: ThreadServer, holder: Attacker) -> None:
        """Unknown, revoked, expired, somebody else's, in use, wrong proof, a key of the device's own: one body."""
        with Attacker.enrolled(server, person=2) as other:
            soon = int(server.context.clock()) + 3600
            theirs = dealt_to(server, other).keys[0]
            revoked, fitting, expired, used = (
                dealt_to(server, holder).keys[0],
                *dealt_to_twice(server, holder),
                dealt_to(server, holder, not_after=soon).keys[0],
            )
            key_revocation.revoke_keys(server.context, [NamedKey(revoked.key_id, "")])
            with server.context.store.write() as conn:
                conn.exec_driver_sql("UPDATE credentials SET not_after = 1 WHERE id = ?", (expired.key_id,))
                conn.exec_driver_sql("UPDATE credentials SET status = 'active' WHERE id = ?", (used.key_id,))
            own = holder.add_credential("bank.example", credential_id=secrets.token_bytes(32))
            before = server.database.rows("SELECT * FROM credentials ORDER BY id")

            bodies = set()
            proof = pairing_proof(fitting.device, statement(fitting.device, holder.id))
            for key_id in (
                secrets.token_bytes(32),
                revoked.key_id,
                expired.key_id,
                used.key_id,
                theirs.key_id,
                own.credential_id,
            ):
                for path, message in (
                    ("/v1/credentials/pair", PairShares(holder.id, key_id, proof).encode()),
                    ("/v1/credentials/adopt", AdoptKey(holder.id, key_id, -257).encode()),
                ):
                    answer = holder.post(path, message)
                    bodies.add((answer.status_code, answer.content))
            answer = holder.post("/v1/credentials/pair", PairShares(holder.id, fitting.key_id, bytes(32)).encode())
            bodies.add((answer.status_code, answer.content))

            assert len(bodies) == 1 and answer.json()["code"] == "provisioned_key_not_usable"
            assert server.database.rows("SELECT * FROM credentials ORDER BY id") == before
            assert pair(holder, fitting.device) == (200, None)  # and the right one is still welcome

    @pytest.mark.parametrize("status", ["quarantined", "recovering", "revoked"])
    def test_a_device_out_of_service_gets_nothing(self, server: ThreadServer, holder: Attacker, status: str) -> None:
        folder = dealt_to(server, holder)
        with server.context.store.write() as conn:
            conn.exec_driver_sql("UPDATE enrolments SET status = ? WHERE id = ?", (status, holder.id))
        assert pair(holder, folder.keys[0].device) == (403, "not_active")
        assert adopt(holder, folder.key_ids[0]) == (403, "not_active")
        assert row_of(server, folder.key_ids[0]).status == "provisioned"

    def test_a_relying_party_that_is_no_longer_served(self, server: ThreadServer, holder: Attacker) -> None:
        key = dealt_to(server, holder).keys[0]
        with server.context.store.write() as conn:
            conn.exec_driver_sql("UPDATE credentials SET rp_id = 'gone.example' WHERE id = ?", (key.key_id,))
        assert pair(holder, key.device) == (403, "rp_not_allowed")

    def test_waiting_keys_take_no_place_until_they_are_adopted(self, server: ThreadServer, holder: Attacker) -> None:
        limits = replace(server.context.policy.limits, max_credentials_per_enrolment=1)
        key = dealt_to(server, holder).keys[0]
        pair(holder, key.device)
        with server.context.store.read() as conn:
            assert count_credentials(conn, holder.id) == 0
        own = holder.add_credential("bank.example")
        with limited(server, limits=limits):
            assert adopt(holder, key.key_id) == (409, "credential_conflict")
            assert row_of(server, key.key_id).status == "paired"
            holder.post("/v1/credentials/revoke", RevokeCredential(holder.id, own.credential_id).encode())
            assert adopt(holder, key.key_id) == (200, None)

    def test_while_a_dealt_key_waits_the_device_makes_none_for_that_site(
        self, server: ThreadServer, holder: Attacker
    ) -> None:
        """It has not been given its half yet; silently making a key of its own would pass the ceremony by."""
        begun = private_message(holder)
        assert told(holder, "/v1/credentials", begun.encode()) == (200, None)
        soon = int(server.context.clock()) + 3600
        waiting = dealt_to(server, holder, not_after=soon).keys[0]
        other = replace(begun, credential_id=secrets.token_bytes(32))

        for step in (lambda: None, lambda: pair(holder, waiting.device)):
            step()
            before = server.database.rows("SELECT * FROM credentials ORDER BY id")
            assert told(holder, "/v1/credentials", other.encode()) == (403, "provisioning_required")
            assert server.database.rows("SELECT * FROM credentials ORDER BY id") == before

        assert told(holder, "/v1/credentials", begun.encode()) == (200, None)  # a lost answer asked for again
        elsewhere = replace(other, credential_id=secrets.token_bytes(32), rp_id="bank.example")
        assert told(holder, "/v1/credentials", elsewhere.encode()) == (200, None)
        with Attacker.enrolled(server, person=2) as somebody:
            theirs = replace(private_message(somebody), credential_id=secrets.token_bytes(32))
            assert told(somebody, "/v1/credentials", theirs.encode()) == (200, None)
        with server.context.store.write() as conn:
            conn.exec_driver_sql("UPDATE credentials SET not_after = 1 WHERE id = ?", (waiting.key_id,))
        assert told(holder, "/v1/credentials", other.encode()) == (200, None)

    @pytest.mark.parametrize("ended", [False, True])
    def test_a_dealt_key_under_a_second_id(self, server: ThreadServer, holder: Attacker, ended: bool) -> None:
        """Whoever had the key before it was imported knows d; the second row would outlive revocation and expiry."""
        key = dealt_to(server, holder, rp_id="bank.example").keys[0]
        if ended:
            key_revocation.revoke_keys(server.context, [NamedKey(key.key_id, "")])
        before = server.database.rows("SELECT * FROM credentials ORDER BY id")
        for credential_id in (secrets.token_bytes(32), key.key_id):
            message = AddCredential(
                holder.id, credential_id, SHOP, -257, key.server.key.modulus_bytes, 65537, key.server.to_bytes()
            )
            assert told(holder, "/v1/credentials", message.encode()) == (409, "credential_conflict")
        assert server.database.rows("SELECT * FROM credentials ORDER BY id") == before

    def test_where_only_provisioned_keys_count_a_device_makes_none(
        self, server: ThreadServer, holder: Attacker
    ) -> None:
        begun = holder.add_credential()
        key = dealt_to(server, holder).keys[0]
        pair(holder, key.device)
        with limited(server, provisioned_only_rp_ids=frozenset({SHOP})):
            before = server.database.rows("SELECT * FROM credentials")
            share = real_key().server
            message = AddCredential(
                holder.id,
                secrets.token_bytes(32),
                SHOP,
                -257,
                share.key.modulus_bytes,
                65537,
                share.to_bytes(),
            )
            assert told(holder, "/v1/credentials", message.encode()) == (403, "provisioning_required")
            assert server.database.rows("SELECT * FROM credentials") == before
            # One begun before the setting came is not finished behind its back.
            outcome = holder.try_login(holder.prepare(begun, kind="create").message_1)
            assert (outcome.told, outcome.counted) == ((403, "provisioning_required"), False)
            assert adopt(holder, key.key_id) == (200, None)
            credential = credential_of(holder, key)
            holder.succeed(holder.prepare(credential, kind="create"))
            holder.succeed(holder.prepare(credential))
            elsewhere = replace(message, credential_id=secrets.token_bytes(32), rp_id="bank.example")
            assert told(holder, "/v1/credentials", elsewhere.encode()) == (200, None)

    def test_a_credential_of_old_keeps_working_where_only_provisioned_keys_count(
        self, server: ThreadServer, holder: Attacker
    ) -> None:
        """The setting is about new keys; revoke the old ones to be rid of them."""
        holder.register()
        with limited(server, provisioned_only_rp_ids=frozenset({SHOP})):
            assert holder.still_works()


class TestWrongProofs:
    def test_a_wrong_proof_changes_no_counter_and_locks_no_login(self, server: ThreadServer, holder: Attacker) -> None:
        holder.register()
        key = dealt_to(server, holder).keys[0]
        query = "SELECT * FROM enrolments WHERE id = ?"
        before = server.database.one(query, holder.id)

        answers = [pair(holder, key.device, proof=secrets.token_bytes(32)) for _ in range(ALLOWANCE + 2)]

        assert answers == [NOT_USABLE] * ALLOWANCE + [(429, "throttled")] * 2
        assert server.database.one(query, holder.id) == before
        assert pair(holder, key.device) == (429, "throttled")  # the price: pairing waits, half a minute at most
        assert holder.still_works()

    def test_what_pairs_a_key_and_ids_that_do_not_wait_cost_nothing(
        self, server: ThreadServer, holder: Attacker
    ) -> None:
        """A device that was dealt many keys takes them all at once."""
        keys = [dealt_to(server, holder).keys[0] for _ in range(3)]
        with allowance_of(2):
            for _ in range(6):
                assert pair(holder, keys[0].device, key_id=secrets.token_bytes(32)) == NOT_USABLE
            assert [pair(holder, key.device) for key in keys] == [(200, None)] * 3

    def test_a_right_proof_sent_again_is_counted(self, server: ThreadServer, holder: Attacker) -> None:
        """Each costs an exponentiation: one proof, copied, would otherwise buy as many as one likes."""
        key = dealt_to(server, holder).keys[0]
        assert pair(holder, key.device) == (200, None)
        again = [pair(holder, key.device) for _ in range(ALLOWANCE + 1)]
        assert again == [(200, None)] * ALLOWANCE + [(429, "throttled")]
        assert row_of(server, key.key_id).status == "paired"

    def test_the_allowance_outlives_the_process_and_comes_back_with_time(
        self, server: ThreadServer, holder: Attacker
    ) -> None:
        """A count in memory gave ten more to whoever had the server restarted, and ten in each worker."""
        ctx, now = server.context, server.context.clock()
        for _ in range(ALLOWANCE):
            rate_limits.spend(ctx, rate_limits.PAIRING_PROOFS, holder.id)

        another = replace(ctx, leases=Leases())
        with pytest.raises(Refused) as refused:
            rate_limits.spend(another, rate_limits.PAIRING_PROOFS, holder.id)

        assert refused.value.code == "throttled"
        wait = refused.value.extension["retry_after_s"]
        assert isinstance(wait, int) and 25 < wait <= 30
        rate_limits.spend(replace(another, clock=lambda: now + wait + 5), rate_limits.PAIRING_PROOFS, holder.id)
        rate_limits.spend(ctx, rate_limits.PAIRING_PROOFS, b"somebody else")


class TestEnding:
    def test_an_expired_key_signs_no_more(self, server: ThreadServer, holder: Attacker) -> None:
        now = int(server.context.clock())
        key = dealt_to(server, holder, not_after=now + 3600).keys[0]
        pair(holder, key.device)
        adopt(holder, key.key_id)
        credential = credential_of(holder, key)
        holder.succeed(holder.prepare(credential, kind="create"))
        holder.succeed(holder.prepare(credential))

        with server.context.store.write() as conn:
            conn.exec_driver_sql("UPDATE credentials SET not_after = ? WHERE id = ?", (now - 1, key.key_id))

        outcome = holder.try_login(holder.prepare(credential).message_1)
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    @pytest.mark.parametrize("reached", ["provisioned", "paired", "provisional", "active"])
    @pytest.mark.parametrize("by", ["device", "operator", "key id", "ceremony", "enrolment"])
    def test_however_it_is_revoked_the_share_is_erased_and_the_row_stays(
        self, server: ThreadServer, holder: Attacker, reached: str, by: str
    ) -> None:
        folder = dealt_to(server, holder)
        key = folder.keys[0]
        steps: list[tuple[str, Callable[[], object]]] = [
            ("provisioned", lambda: None),
            ("paired", lambda: pair(holder, key.device)),
            ("provisional", lambda: adopt(holder, key.key_id)),
            ("active", lambda: holder.succeed(holder.prepare(credential_of(holder, key), kind="create"))),
        ]
        for name, step in steps:
            step()
            if name == reached:
                break
        assert row_of(server, key.key_id).status == reached

        ctx = server.context
        {
            "device": lambda: holder.post("/v1/credentials/revoke", RevokeCredential(holder.id, key.key_id).encode()),
            "operator": lambda: administration.revoke_credential(ctx, key.key_id),
            "key id": lambda: key_revocation.revoke_keys(ctx, [NamedKey(key.key_id, "")]),
            "ceremony": lambda: key_revocation.revoke_ceremony(ctx, folder.manifest.ceremony_id),
            "enrolment": lambda: administration.revoke_enrolment(ctx, holder.id),
        }[by]()

        row = row_of(server, key.key_id)
        assert (row.status, row.sealed_share) == ("revoked", None)
        assert folder.import_into(ctx).revoked == (key.key_id,)
        assert row_of(server, key.key_id).sealed_share is None
        refusal = (403, "not_active") if by == "enrolment" else NOT_USABLE
        assert pair(holder, key.device) == adopt(holder, key.key_id) == refusal

    def test_a_provisional_key_that_was_left_lying_is_kept(self, server: ThreadServer, holder: Attacker) -> None:
        """One of the device's own goes after a day; a dealt one would come back with the next import."""
        key = dealt_to(server, holder).keys[0]
        pair(holder, key.device)
        adopt(holder, key.key_id)
        own = holder.add_credential()
        with server.context.store.write() as conn:
            conn.exec_driver_sql("UPDATE credentials SET created_at = 1 WHERE enrolment_id = ?", (holder.id,))

        holder.add_credential()

        assert stored(server.context, own.credential_id) is None
        assert row_of(server, key.key_id).status == "provisional"

    def test_what_the_admin_api_tells(self, server: ThreadServer, holder: Attacker) -> None:
        later = int(server.context.clock()) + 60
        folder = dealt_to(server, holder, not_after=later)
        detail = administration.enrolment_detail(server.context, holder.id)
        told_of = [credential_document(row) for row in detail.credentials]
        assert [(item["id"], item["status"], item["not_after"], item["ceremony_id"]) for item in told_of] == [
            (base64url.encode(folder.key_ids[0]), "provisioned", later, folder.manifest.ceremony_id.hex())
        ]

    def test_recovery_tells_the_counter_of_a_dealt_key_too(self, server: ThreadServer, holder: Attacker) -> None:
        """A copy may have moved it. Keys that wait have none, and could be more than an answer holds."""
        folder = dealt_to(server, holder)
        key = folder.keys[0]
        waiting = dealt_to(server, holder).key_ids[0]
        pair(holder, key.device)
        adopt(holder, key.key_id)
        holder.succeed(holder.prepare(credential_of(holder, key), kind="create", sign_count=7))
        with server.context.store.read() as conn:
            enrolment = load_enrolment(conn, holder.id)
            assert enrolment is not None
            accepted = Accepted.decode(recovery._accepted(conn, enrolment))
        assert dict(accepted.sign_counts) == {key.key_id: 7}
        assert row_of(server, waiting).status == "provisioned"


def private_message(holder: Attacker) -> AddCredential:
    """A new key of the device's own, of which it has shown nothing yet."""
    share = real_key().server
    return AddCredential(
        holder.id, secrets.token_bytes(32), SHOP, -257, share.key.modulus_bytes, 65537, share.to_bytes()
    )


def dealt_to_twice(server: ThreadServer, holder: Attacker) -> tuple[SplitKey, SplitKey]:
    return dealt_to(server, holder).keys[0], dealt_to(server, holder).keys[0]
