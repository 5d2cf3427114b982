"""authenticatorData, counter, kind, algorithm, profile: the server signs only what this credential may say.

Every message here is consistent in itself (the OT proof and y_tag belong to the altered data), so it is the check of
the contents that must stop it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from attacker import SHOP, Attacker, Outcome, altered
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from parties import private_key
from real_server import ThreadServer, thread_server

from authsvc.policy import Policy
from authsvc.store.credentials import revoke_credential
from mpc.login.authenticator_data import assertion_data, cose_rsa_key, registration_data
from mpc.login.device_side import Match
from mpc.login.enrolment_messages import AddCredential
from mpc.login.extension_outputs import CredProtect, ExtensionOutputs
from mpc.login.messages import Confirmation, Message3
from mpc.threshold_rsa.encodings import Algorithm

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
MAX_JUMP = 65_536


def with_flags(data: bytes, flags: int) -> bytes:
    return data[:32] + bytes([flags]) + data[33:]


def with_count(data: bytes, count: int) -> bytes:
    return data[:33] + count.to_bytes(4, "big") + data[37:]


def refused_and_counted(attacker: Attacker, outcome: Outcome) -> None:
    """Row L7: 400, counted as a failure, still active, counter untouched."""
    assert outcome.told == (400, "bad_authenticator_data")
    assert (outcome.counted, outcome.login_state) == (True, "failed")
    assert attacker.status() == ("active", None)
    assert attacker.still_works()


BAD_ASSERTIONS: dict[str, Callable[[bytes], bytes]] = {
    "another relying party": lambda data: hashlib.sha256(b"bank.example").digest() + data[32:],
    "relying party hash with one bit flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "UV clear": lambda data: with_flags(data, UP),
    "UP clear": lambda data: with_flags(data, UV),
    "no flags": lambda data: with_flags(data, 0),
    "BE set": lambda data: with_flags(data, UP | UV | BE),
    "BE and BS set": lambda data: with_flags(data, UP | UV | BE | BS),
    "BS set": lambda data: with_flags(data, UP | UV | BS),
    "ED set": lambda data: with_flags(data, UP | UV | ED),
    "ED with an empty extension map": lambda data: with_flags(data, UP | UV | ED) + b"\xa0",
    "reserved bit 1": lambda data: with_flags(data, UP | UV | 0x02),
    "reserved bit 5": lambda data: with_flags(data, UP | UV | 0x20),
    "AT set": lambda data: with_flags(data, UP | UV | AT),
    "a whole registration": lambda data: (
        with_flags(data, UP | UV | AT)
        + bytes(16)
        + b"\x00\x20"
        + bytes(32)
        + cose_rsa_key(-257, private_key(2048, 0).public_key().public_numbers().n, 65537)
    ),
    "one byte more": lambda data: data + b"\x00",
    "client data appended early": lambda data: data + bytes(32),
}


@pytest.mark.parametrize("name", BAD_ASSERTIONS)
def test_assertion_data_that_this_credential_may_not_say(attacker: Attacker, name: str) -> None:
    good = assertion_data(SHOP, attacker.last_count(attacker.credentials[0]) + 1)
    login = attacker.prepare(authenticator_data=BAD_ASSERTIONS[name](good))
    refused_and_counted(attacker, attacker.try_login(login.message_1))


@pytest.mark.parametrize("size", [0, 36])
def test_assertion_data_too_short_to_have_a_counter(attacker: Attacker, size: int) -> None:
    body = altered(attacker.prepare().message_1, authenticator_data=bytes(size))
    outcome = attacker.try_login(body)
    assert outcome.told == (400, "malformed")
    assert outcome.document["field"] == "message_1.authenticator_data"
    assert not outcome.counted


class TestCounter:
    @pytest.mark.parametrize("step", [0, -1, MAX_JUMP + 1], ids=["equal", "lower", "one more than the largest step"])
    def test_out_of_order(self, attacker: Attacker, step: int) -> None:
        last = attacker.last_count(attacker.credentials[0])
        outcome = attacker.try_login(attacker.prepare(sign_count=last + step).message_1)
        refused_and_counted(attacker, outcome)
        assert attacker.last_count(attacker.credentials[0]) >= last

    def test_the_largest_number(self, attacker: Attacker) -> None:
        """Signed once, it would end the credential at every relying party."""
        refused_and_counted(attacker, attacker.try_login(attacker.prepare(sign_count=2**32 - 1).message_1))

    def test_the_largest_step_is_allowed(self, attacker: Attacker) -> None:
        last = attacker.last_count(attacker.credentials[0])
        login = attacker.prepare(sign_count=last + MAX_JUMP)
        attacker.succeed(login)
        assert attacker.last_count(attacker.credentials[0]) == last + MAX_JUMP

    def test_a_counter_is_used_up_by_an_answer_that_nobody_opened(self, attacker: Attacker) -> None:
        first = attacker.prepare()
        count = attacker.last_count(attacker.credentials[0]) + 1
        assert attacker.try_login(first.message_1).status == 200
        again = attacker.try_login(attacker.prepare(sign_count=count).message_1)
        assert (again.told, again.counted) == ((400, "bad_authenticator_data"), True)

    def test_equal_in_parallel_requests_one_wins(self, attacker: Attacker) -> None:
        count = attacker.last_count(attacker.credentials[0]) + 1
        start = threading.Barrier(4)
        logins = [attacker.prepare(sign_count=count) for _ in range(4)]
        answers: list[httpx.Response] = []

        def send(body: bytes) -> None:
            start.wait()
            answers.append(attacker.post("/v1/logins", body))

        threads = [threading.Thread(target=send, args=(login.message_1,)) for login in logins]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(answers) == 4
        won = [answer for answer in answers if answer.status_code == 200]
        assert len(won) == 1
        codes = {answer.json()["code"] for answer in answers if answer.status_code != 200}
        assert codes <= {"bad_authenticator_data", "stale_index"}
        states = [row["state"] for row in attacker.logins()]
        assert states.count("pending") == 1
        assert attacker.status() == ("active", None)


class TestRegistration:
    def test_a_second_registration_of_an_active_credential(self, attacker: Attacker) -> None:
        outcome = attacker.try_login(attacker.prepare(kind="create").message_1)
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)
        assert attacker.still_works()

    def test_registering_again_after_an_answer_that_was_confirmed(self, attacker: Attacker) -> None:
        credential = attacker.add_credential("bank.example", which_key=1)
        attacker.succeed(attacker.prepare(credential, kind="create"))
        outcome = attacker.try_login(attacker.prepare(credential, kind="create").message_1)
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    def test_a_login_with_a_provisional_credential(self, attacker: Attacker) -> None:
        credential = attacker.add_credential("bank.example", which_key=1)
        outcome = attacker.try_login(attacker.prepare(credential).message_1)
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    def test_a_revoked_credential(self, server: ThreadServer, attacker: Attacker) -> None:
        credential = attacker.register("bank.example", which_key=1)
        with server.context.store.write() as conn:
            revoke_credential(conn, credential.credential_id)
        for kind in ("get", "create"):
            outcome = attacker.try_login(attacker.prepare(credential, kind=kind).message_1)
            assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    def test_create_as_get_and_get_as_create(self, attacker: Attacker) -> None:
        """The kind is in T1, and the data must be of that kind."""
        credential = attacker.add_credential("bank.example", which_key=1)
        data = assertion_data("bank.example", 1)
        outcome = attacker.try_login(attacker.prepare(credential, kind="create", authenticator_data=data).message_1)
        assert (outcome.told, outcome.counted) == ((400, "bad_authenticator_data"), True)
        outcome = attacker.try_login(altered(attacker.prepare(credential, kind="create").message_1, kind="get"))
        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)

    @pytest.mark.parametrize(
        "name", ["key of another", "alg of another", "id of another", "aaguid", "flags", "trailing", "ED", "rp"]
    )
    def test_attested_data_that_is_not_the_stored_one(self, attacker: Attacker, name: str) -> None:
        credential = attacker.add_credential("bank.example", which_key=1)
        good = attacker.right_data(credential, "create", 1)
        own, other = credential.key_share.key, private_key(2048, 0).public_key().public_numbers()
        bad = {
            "key of another": registration_data(
                "bank.example", 1, credential.credential_id, cose_rsa_key(-257, other.n, 65537)
            ),
            "alg of another": registration_data(
                "bank.example", 1, credential.credential_id, cose_rsa_key(-37, own.modulus, 65537)
            ),
            "id of another": good.replace(credential.credential_id, attacker.credentials[0].credential_id),
            "aaguid": good[:37] + bytes(16) + good[53:],
            "flags": with_flags(good, UP | UV | AT | BE),
            "trailing": good + b"\x00",
            "ED": with_flags(good, UP | UV | AT | ED) + b"\xa0",
            "rp": hashlib.sha256(b"shop.example").digest() + good[32:],
        }[name]
        assert bad != good

        outcome = attacker.try_login(attacker.prepare(credential, kind="create", authenticator_data=bad).message_1)

        assert (outcome.told, outcome.counted) == ((400, "bad_authenticator_data"), True)
        row = attacker.database.one("SELECT status FROM credentials WHERE id = ?", credential.credential_id)
        assert row["status"] == "provisional"
        attacker.succeed(attacker.prepare(credential, kind="create"))

    @pytest.mark.parametrize(
        "outputs",
        [
            b"",
            b"\xa0",
            b"\xa1\x6bcredProtect\x00",
            b"\xa1\x6bcredProtect\x04",
            b"\xa1\x6bcredProtect\xf5",
            b"\xa1\x6bcredProtect\x18\x02",  # not the shortest form
            b"\xa1\x6bcredProtect\x02\x00",  # a byte too many
            b"\xa1\x68credBlob\xf5",
            b"\xa2\x63uvm\x80\x6bcredProtect\x02",
            b"\xa1\x63uvm\x81\x83\x10\x01\x01",  # a face, where the profile is of simulated fingers
            b"\x02",
        ],
    )
    def test_extension_outputs_that_nobody_defined(self, attacker: Attacker, outputs: bytes) -> None:
        """What the joint signature says of extensions, the server has read and knows."""
        credential = attacker.add_credential("bank.example", which_key=1)
        bad = with_flags(attacker.right_data(credential, "create", 1), UP | UV | AT | ED) + outputs

        outcome = attacker.try_login(attacker.prepare(credential, kind="create", authenticator_data=bad).message_1)

        assert (outcome.told, outcome.counted) == ((400, "bad_authenticator_data"), True)

    def test_outputs_need_their_flag_and_are_for_registrations_only(self, attacker: Attacker) -> None:
        outputs = ExtensionOutputs(cred_protect=CredProtect.UV_REQUIRED).encode()
        credential = attacker.add_credential("bank.example", which_key=1)
        silent = attacker.right_data(credential, "create", 1) + outputs
        outcome = attacker.try_login(attacker.prepare(credential, kind="create", authenticator_data=silent).message_1)
        assert (outcome.told, outcome.counted) == ((400, "bad_authenticator_data"), True)

        told = with_flags(attacker.right_data(credential, "create", 2), UP | UV | AT | ED) + outputs
        attacker.succeed(attacker.prepare(credential, kind="create", authenticator_data=told))

        for bad in (outputs, b"\xa0", b"\xa1\x63uvm\x81\x83\x10\x01\x01"):
            login = with_flags(attacker.right_data(credential, "get", 3), UP | UV | ED) + bad
            outcome = attacker.try_login(attacker.prepare(credential, authenticator_data=login).message_1)
            assert (outcome.told, outcome.counted) == ((400, "bad_authenticator_data"), True)

    def test_a_relying_party_that_is_not_served(self, attacker: Attacker) -> None:
        with pytest.raises(AssertionError, match="rp_not_allowed"):
            attacker.add_credential("evil.example")

    @pytest.mark.parametrize("name", ["short", "even", "exponent", "narrow share", "negative share", "unknown alg"])
    def test_a_key_that_would_give_itself_away(self, attacker: Attacker, name: str) -> None:
        """A short share is Coppersmith's; the server must not take it even from the key's owner."""
        credential = attacker.add_credential("bank.example", which_key=1)
        key, share = credential.key_share.key, attacker.shares[credential.credential_id]
        width = len(share.to_bytes()) - 2
        right = AddCredential(
            attacker.id,
            secrets.token_bytes(32),
            "bank.example",
            -257,
            key.modulus_bytes,
            65537,
            b"\x01\x00" + abs(share.value).to_bytes(width, "big"),
        )
        assert attacker.post("/v1/credentials", right.encode()).status_code == 200
        fresh = replace(right, credential_id=secrets.token_bytes(32)).encode()
        bad = {
            "short": {"modulus": (2**1023 + 1).to_bytes(128, "big") + bytes(128)},
            "even": {"modulus": (key.modulus - 1).to_bytes(256, "big")},
            "exponent": {"exponent": 3},
            "narrow share": {"key_share": b"\x01\x00" + (2**2000).to_bytes(width, "big")},
            "negative share": {"key_share": b"\x01\x01" + abs(share.value).to_bytes(width, "big")},
            "unknown alg": {"algorithm": -7},
        }[name]
        before = attacker.database.dump()
        answer = attacker.post("/v1/credentials", altered(fresh, **bad))
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), answer.text
        assert answer.json()["field"]
        assert attacker.database.dump() == before


class TestAlgorithm:
    @pytest.mark.parametrize("salt", [bytes(31), bytes(33), b"", b"x" * 32], ids=["31", "33", "none", "32"])
    def test_a_salt_where_there_is_none(self, attacker: Attacker, salt: bytes) -> None:
        outcome = attacker.try_login(altered(attacker.prepare().message_1, pss_salt=salt))
        assert outcome.told == (400, "malformed")
        assert outcome.document["field"] == "message_1.pss_salt"
        assert not outcome.counted
        assert attacker.still_works()

    @pytest.mark.parametrize("salt", [None, bytes(31), bytes(33)], ids=["missing", "31", "33"])
    def test_a_salt_of_another_length_or_none_for_ps256(self, attacker: Attacker, salt: bytes | None) -> None:
        credential = attacker.register("bank.example", Algorithm.PS256, which_key=1)
        outcome = attacker.try_login(altered(attacker.prepare(credential).message_1, pss_salt=salt))
        assert outcome.told == (400, "malformed")
        assert outcome.document["field"] == "message_1.pss_salt"
        assert not outcome.counted

    def test_the_algorithm_is_the_credentials_not_the_messages(self, attacker: Attacker) -> None:
        credential = attacker.register("bank.example", Algorithm.PS256, which_key=1)
        outcome = attacker.try_login(attacker.prepare(credential, algorithm=Algorithm.RS256).message_1)
        assert (outcome.told, outcome.counted) == ((400, "malformed"), False)
        outcome = attacker.try_login(attacker.prepare(algorithm=Algorithm.PS256).message_1)
        assert (outcome.told, outcome.counted) == ((400, "malformed"), False)

    def test_a_salt_changed_after_the_proof(self, attacker: Attacker) -> None:
        """The salt is in T1, so the OT proof does not fit any more: caught before anything is signed."""
        credential = attacker.register("bank.example", Algorithm.PS256, which_key=1)
        outcome = attacker.try_login(
            altered(attacker.prepare(credential).message_1, pss_salt=lambda old: bytes([old[0] ^ 1]) + old[1:])
        )
        assert (outcome.told, outcome.counted) == ((403, "quarantined"), True)
        assert attacker.status() == ("quarantined", "ot_proof_failed")


@pytest.mark.parametrize("name", ["client_data_hash", "device_nonce", "ephemeral", "authenticator_data"])
def test_every_typed_field_is_under_the_proof(attacker: Attacker, name: str) -> None:
    """A byte changed on the way (or by a clone that reuses a proof) is a false proof, not another login."""
    body = altered(attacker.prepare().message_1, **{name: lambda old: old[:-1] + bytes([old[-1] ^ 1])})
    outcome = attacker.try_login(body)
    assert (outcome.told, outcome.counted) == ((403, "quarantined"), True)
    assert attacker.status() == ("quarantined", "ot_proof_failed")
    assert outcome.enrolment["sealed_base_ot"] is None


def test_client_data_other_than_announced_do_not_verify(attacker: Attacker) -> None:
    """The server signs a hash it cannot read: the relying party is the one who compares it with its challenge."""
    login = attacker.prepare(client_data_hash=hashlib.sha256(b"what was shown").digest())
    count = attacker.last_count(attacker.credentials[0]) + 1
    match = attacker.succeed(login)
    public = private_key(2048, 0).public_key()

    def verify(client_data: bytes) -> None:
        message = assertion_data(SHOP, count) + hashlib.sha256(client_data).digest()
        public.verify(match.signature, message, padding.PKCS1v15(), hashes.SHA256())

    verify(b"what was shown")
    with pytest.raises(InvalidSignature):
        verify(b"what the relying party asked")


def test_a_small_order_ephemeral_is_refused_and_counted(attacker: Attacker) -> None:
    outcome = attacker.try_login(altered(attacker.prepare().message_1, ephemeral=bytes(32)))
    assert (outcome.told, outcome.counted) == ((400, "malformed"), True)
    assert attacker.status() == ("active", None)


class TestStatementOfAnotherState:
    def test_an_epoch_that_has_not_come(self, attacker: Attacker) -> None:
        outcome = attacker.try_login(attacker.prepare(epoch=attacker.state.epoch + 1).message_1)
        assert (outcome.told, outcome.counted) == ((409, "epoch_ahead"), False)

    def test_another_base_ot(self, attacker: Attacker) -> None:
        outcome = attacker.try_login(attacker.prepare(base_ot_id=secrets.token_bytes(16)).message_1)
        assert (outcome.told, outcome.counted) == ((409, "base_ot_changed"), False)

    def test_an_index_used_before(self, attacker: Attacker) -> None:
        used = attacker.state.ot_index
        outcome = attacker.try_login(attacker.prepare(ot_index=used).message_1)
        assert (outcome.told, outcome.counted) == ((409, "stale_index"), False)
        assert outcome.document["last_index"] == used
        assert attacker.still_works()

    def test_the_same_message_twice(self, attacker: Attacker) -> None:
        body = attacker.prepare().message_1
        assert attacker.try_login(body).status == 200
        again = attacker.try_login(body)
        assert (again.told, again.counted) == ((409, "stale_index"), False)

    def test_an_index_out_of_reach(self, attacker: Attacker) -> None:
        index = attacker.state.ot_index + 2**20 + 1
        outcome = attacker.try_login(attacker.prepare(ot_index=index).message_1)
        assert (outcome.told, outcome.counted) == ((409, "index_ahead"), False)

    def test_a_profile_of_the_attackers_making(self, attacker: Attacker) -> None:
        lenient = replace(attacker.state.profile, threshold=255, thresholds=())
        outcome = attacker.try_login(attacker.prepare(profile=lenient).message_1)
        assert (outcome.told, outcome.counted) == ((409, "profile_changed"), False)
        assert attacker.still_works()


def test_a_threshold_changed_between_two_messages(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Policy tightens θ while a device computes: 409, not counted, and with the new profile it goes on."""
    with thread_server(tmp_path_factory.mktemp("policy")) as server, Attacker.enrolled(server) as attacker:
        attacker.register()
        body = attacker.prepare().message_1
        tighter = replace(attacker.state.profile, threshold=100, thresholds=())
        policy: Policy = server.context.policy
        profiles = {**policy.profiles, tighter.name: tighter}
        object.__setattr__(server.context, "policy", replace(policy, profiles=profiles))

        outcome = attacker.try_login(body)

        assert (outcome.told, outcome.counted) == ((409, "profile_changed"), False)
        attacker.state = replace(attacker.state, profile=tighter)
        assert attacker.still_works()


class TestConfirmation:
    def test_a_guessed_token(self, attacker: Attacker) -> None:
        login = attacker.prepare()
        assert attacker.try_login(login.message_1).status == 200
        before = attacker.database.dump()
        guess = Message3(attacker.id, Confirmation(attacker.state.ot_index, secrets.token_bytes(32)))
        answer = attacker.post("/v1/confirmations", guess.encode())
        assert (answer.status_code, answer.json()["code"]) == (409, "unknown_login")
        assert answer.json()["epoch"] == attacker.state.epoch
        assert attacker.database.dump() == before

    def test_the_right_token_under_another_index(self, attacker: Attacker) -> None:
        login = attacker.prepare()
        match = login.finish(attacker.try_login(login.message_1).body)
        assert isinstance(match, Match)
        wrong = Message3(attacker.id, replace(match.confirmation, ot_index=match.confirmation.ot_index + 1))
        answer = attacker.post("/v1/confirmations", wrong.encode())
        assert (answer.status_code, answer.json()["code"]) == (409, "unknown_login")
        attacker.confirm(match)
        assert attacker.still_works()

    def test_the_token_of_a_login_that_lost(self, attacker: Attacker) -> None:
        """Two answers of one epoch were opened: there are two devices."""
        first_login = attacker.prepare()
        first = first_login.finish(attacker.try_login(first_login.message_1).body)
        second_login = attacker.prepare()
        second = second_login.finish(attacker.try_login(second_login.message_1).body)
        assert isinstance(first, Match) and isinstance(second, Match)
        attacker.confirm(second)

        answer = attacker.post("/v1/confirmations", Message3(attacker.id, first.confirmation).encode())

        assert (answer.status_code, answer.json()["code"]) == (403, "quarantined")
        assert attacker.status() == ("quarantined", "clone_proved")
