"""Honest ceremonies through a real server: what two independent relying parties must accept, and what comes back."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fido2.cose import PS256, RS256
from fido2.utils import websafe_decode
from fido2.webauthn import AuthenticatorData
from people import Person, enrolled_device
from real_server import ThreadServer, wait_until
from relying_parties import RelyingParty

from device_sdk import AsyncDevice, BinaryCode, Device, KeyFile
from device_sdk.authenticator import options as options_module
from device_sdk.errors import (
    InvalidState,
    NoMatch,
    NotAllowed,
    NotSupported,
    RelyingPartyNotAllowed,
    Security,
)

OPTION_TIMEOUT_MS = 100


@pytest.fixture
def person() -> Person:
    return Person(1)


@pytest.fixture
def shop() -> RelyingParty:
    return RelyingParty("shop.example")


@pytest.fixture
def device(server: ThreadServer, tmp_path: Path, person: Person) -> Iterator[Device]:
    with enrolled_device(server, tmp_path, person) as enrolled:
        yield enrolled


def create(device: Device, party: RelyingParty, person: Person, bits: int = 2048, **wanted: Any) -> bytes:
    options = party.creation_options(**wanted)
    return party.register(options, device.create(options, party.origin, person.capture(), modulus_bits=bits))


def login(device: Device, party: RelyingParty, person: Person, **wanted: Any) -> dict[str, Any]:
    options = party.request_options(**wanted)
    answer = device.get(options, party.origin, person.capture())
    party.authenticate(options, answer)
    return answer


def client_data_hash(answer: dict[str, Any]) -> bytes:
    return hashlib.sha256(websafe_decode(answer["response"]["clientDataJSON"])).digest()


class TestAlgorithmsAndSizes:
    @pytest.mark.parametrize("attestation", ["direct", "none"])
    @pytest.mark.parametrize(("algorithm", "kind"), [(-257, RS256), (-37, PS256)])
    def test_both_relying_parties_accept(
        self, device: Device, shop: RelyingParty, person: Person, attestation: str, algorithm: int, kind: type
    ) -> None:
        credential_id = create(device, shop, person, algorithms=(algorithm,), attestation=attestation)
        for _ in range(3):
            login(device, shop, person)

        assert isinstance(shop.known[credential_id][0].public_key, kind)

    @pytest.mark.parametrize("algorithm", [-257, -37])
    def test_a_longer_modulus(self, device: Device, shop: RelyingParty, person: Person, algorithm: int) -> None:
        create(device, shop, person, bits=3072, algorithms=(algorithm,))
        answer = login(device, shop, person)

        assert len(websafe_decode(answer["response"]["signature"])) == 384

    def test_an_rs256_assertion_is_the_one_signature_there_is(
        self, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        """RSASSA-PKCS1-v1_5 is deterministic: s^e is the encoded message, byte for byte."""
        credential_id = create(device, shop, person)
        answer = login(device, shop, person)
        key = shop.known[credential_id][0].public_key
        modulus = int.from_bytes(key[-1], "big")
        signature = int.from_bytes(websafe_decode(answer["response"]["signature"]), "big")
        message = websafe_decode(answer["response"]["authenticatorData"]) + client_data_hash(answer)

        digest_info = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(message).digest()
        expected = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest_info)) + b"\x00" + digest_info
        assert pow(signature, 65537, modulus).to_bytes(256, "big") == expected
        assert len(websafe_decode(answer["response"]["authenticatorData"])) == 37

    def test_a_list_without_rsa_is_refused_before_the_camera(self, device: Device, shop: RelyingParty) -> None:
        def capture() -> BinaryCode:
            raise AssertionError("captured for options that cannot be met")

        with pytest.raises(NotSupported) as fault:
            device.create(shop.creation_options(algorithms=(-7, -8)), shop.origin, capture)
        assert fault.value.dom_name == "NotSupportedError"

    def test_counters_increase_and_start_from_the_registered_one(
        self, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        credential_id = create(device, shop, person)
        counts = [shop.known[credential_id][1]]
        for _ in range(4):
            login(device, shop, person)
            counts.append(shop.known[credential_id][1])
        with pytest.raises(NoMatch):
            device.get(shop.request_options(), shop.origin, Person(2).capture())
        login(device, shop, person)
        counts.append(shop.known[credential_id][1])

        assert counts == sorted(set(counts)) and counts[0] >= 1


class TestWhichCredential:
    def test_relying_parties_do_not_see_each_other(self, device: Device, shop: RelyingParty, person: Person) -> None:
        bank = RelyingParty("bank.example")
        at_shop, at_bank = create(device, shop, person), create(device, bank, person)

        assert websafe_decode(login(device, shop, person)["rawId"]) == at_shop
        assert websafe_decode(login(device, bank, person)["rawId"]) == at_bank
        with pytest.raises(NotAllowed):
            device.get(bank.request_options(allow=(at_shop,)), bank.origin, person.capture())
        with pytest.raises(Security):
            device.get(bank.request_options(), shop.origin, person.capture())

    def test_allow_list_and_user_handle(self, device: Device, shop: RelyingParty, person: Person) -> None:
        hidden = create(device, shop, person, user=b"u1", resident="discouraged")
        open_one = create(device, shop, person, user=b"u2")

        by_list = login(device, shop, person, allow=(hidden,))
        assert websafe_decode(by_list["rawId"]) == hidden
        assert "userHandle" not in by_list["response"]
        by_itself = login(device, shop, person)
        assert websafe_decode(by_itself["rawId"]) == open_one
        assert websafe_decode(by_itself["response"]["userHandle"]) == b"u2"
        with pytest.raises(NotAllowed):
            device.get(shop.request_options(allow=(b"x" * 32,)), shop.origin, person.capture())

    def test_a_new_discoverable_credential_replaces_the_one_of_the_same_account(
        self, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        hidden = create(device, shop, person, resident="discouraged")
        first = create(device, shop, person)
        second = create(device, shop, person)

        assert {info.credential_id for info in device.credentials()} == {hidden, second}
        assert first != second
        assert websafe_decode(login(device, shop, person)["rawId"]) == second
        login(device, shop, person, allow=(hidden,))

    def test_choose_account(self, device: Device, shop: RelyingParty, person: Person) -> None:
        ids = [create(device, shop, person, user=bytes([n]), name=f"user{n}") for n in range(3)]
        offered: list[list[str]] = []

        def choose(accounts: Any) -> bytes:
            offered.append([account.user_name for account in accounts])
            return bytes(accounts[-1].credential_id)

        options = shop.request_options()
        answer = device.get(options, shop.origin, person.capture(), choose_account=choose)
        assert shop.authenticate(options, answer) == ids[0]
        assert offered == [["user2", "user1", "user0"]]
        with pytest.raises(NotAllowed):
            device.get(shop.request_options(), shop.origin, person.capture(), choose_account=lambda _: None)

    def test_delete_takes_the_servers_share_first(
        self, server: ThreadServer, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        kept, gone = (create(device, shop, person, user=user) for user in (b"a", b"b"))
        assert device.confirm_now()  # before that it is provisional, and is deleted altogether
        device.delete(gone)

        row = server.database.one("SELECT status, sealed_share FROM credentials WHERE id = ?", gone)
        assert row == {"status": "revoked", "sealed_share": None}
        assert [info.credential_id for info in device.credentials()] == [kept]
        with pytest.raises(KeyError):
            device.delete(gone)
        login(device, shop, person)

    def test_delete_the_credential_of_an_outstanding_confirmation(
        self, server: ThreadServer, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        kept, gone = (create(device, shop, person, user=user) for user in (b"a", b"b"))
        login(device, shop, person, allow=(gone,))
        device.delete(gone)

        for _ in range(2):
            assert websafe_decode(login(device, shop, person)["rawId"]) == kept

    def test_a_relying_party_the_server_does_not_serve(self, device: Device, person: Person) -> None:
        other = RelyingParty("other.example")
        with pytest.raises(RelyingPartyNotAllowed):
            device.create(other.creation_options(), other.origin, person.capture())
        assert device.credentials() == []


class TestCredProtect:
    def test_the_level_is_signed_and_stays(self, device: Device, shop: RelyingParty, person: Person) -> None:
        policy = {"credentialProtectionPolicy": "userVerificationRequired"}
        options = shop.creation_options(extensions=policy)
        answer = device.create(options, shop.origin, person.capture())
        shop.register(options, answer)

        data = AuthenticatorData(websafe_decode(answer["response"]["authenticatorData"]))
        assert data.extensions == {"credProtect": 3}
        assert [info.cred_protect for info in device.credentials()] == [3]
        assert len(websafe_decode(login(device, shop, person)["response"]["authenticatorData"])) == 37
        create(device, shop, person, user=b"another")
        assert sorted(info.cred_protect for info in device.credentials()) == [1, 3]


class TestExcludeList:
    def test_told_only_after_a_match(
        self, server: ThreadServer, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        known = create(device, shop, person)
        options = shop.creation_options(user=b"u2", exclude=(known,))

        with pytest.raises(NoMatch):
            device.create(options, shop.origin, Person(2).capture())
        with pytest.raises(InvalidState) as fault:
            device.create(options, shop.origin, person.capture())
        assert fault.value.dom_name == "InvalidStateError"
        assert [info.credential_id for info in device.credentials()] == [known]

    def test_the_match_behind_it_is_confirmed_without_another_login(
        self, server: ThreadServer, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        """The user did verify: it must not count as a failure until he happens to log in again."""
        known = create(device, shop, person)
        with pytest.raises(InvalidState):
            device.create(shop.creation_options(exclude=(known,)), shop.origin, person.capture())

        query = "SELECT consecutive_failures AS n FROM enrolments WHERE id = ?"
        wait_until(lambda: server.database.one(query, device.enrolment_id)["n"] == 0, limit_s=10)

    def test_an_unknown_excluded_one_changes_nothing(self, device: Device, shop: RelyingParty, person: Person) -> None:
        create(device, shop, person, exclude=(b"y" * 32,))

    def test_another_relying_partys_excluded_one_changes_nothing(
        self, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        known = create(device, shop, person)
        create(device, RelyingParty("bank.example"), person, exclude=(known,))


class TestTimeout:
    @pytest.fixture(autouse=True)
    def short_timeouts_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(options_module, "MIN_TIMEOUT_MS", 1)

    def test_a_capture_that_takes_too_long(
        self, server: ThreadServer, device: Device, shop: RelyingParty, person: Person
    ) -> None:
        create(device, shop, person)
        device.confirm_now()
        index = server.database.one("SELECT last_index FROM enrolments WHERE id = ?", device.enrolment_id)
        waited: list[bool] = []

        def slow() -> BinaryCode:
            time.sleep(OPTION_TIMEOUT_MS / 1000 + 0.05)
            waited.append(True)
            return person.capture()

        with pytest.raises(NotAllowed) as fault:
            device.get(shop.request_options(timeout=OPTION_TIMEOUT_MS), shop.origin, slow)
        assert waited and fault.value.dom_name == "NotAllowedError"
        assert index == server.database.one("SELECT last_index FROM enrolments WHERE id = ?", device.enrolment_id)
        login(device, shop, person)


class TestAsyncDevice:
    def test_the_whole_life_of_a_device(
        self, server: ThreadServer, tmp_path: Path, shop: RelyingParty, person: Person
    ) -> None:
        async def capture() -> BinaryCode:
            await asyncio.sleep(0)
            return person.capture()

        async def ticking(ticks: list[int]) -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)

        async def life() -> None:
            ticks: list[int] = []
            ticker = asyncio.create_task(ticking(ticks))
            device = await AsyncDevice.enrol(
                server=server.url,
                enrolment_code=server.code(),
                captures=person.captures(),
                vault=tmp_path / "vault",
                vault_key=KeyFile(tmp_path / "key"),
                profile="sim-512",
            )
            async with device:
                options = shop.creation_options()
                shop.register(options, await device.create(options, shop.origin, capture))
                before = len(ticks)
                options = shop.request_options()
                shop.authenticate(options, await device.get(options, shop.origin, person.capture))
                assert len(ticks) > before, "the event loop stood still"
                assert await device.confirm_now() is True
                with pytest.raises(NoMatch):
                    await device.get(shop.request_options(), shop.origin, Person(3).capture())
                await device.delete(device.credentials()[0].credential_id)
                assert device.credentials() == []
            async with await AsyncDevice.open(tmp_path / "vault", vault_key=KeyFile(tmp_path / "key")) as again:
                assert again.credentials() == []
            ticker.cancel()

        asyncio.run(life())
