"""Packed attestation by certificate: two libraries verify it against the metadata statement, or refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attested import (
    OtherAuthority,
    attested_object,
    attesting_server,
    by_fido2,
    by_py_webauthn,
    flipped,
    statement_of,
    tampered,
)
from fido2 import cbor
from fido2.utils import websafe_decode
from fido2.webauthn import AuthenticatorData
from people import Person, enrolled_device
from real_server import ThreadServer, thread_server
from relying_parties import RelyingParty

from authsvc.services import attestation
from device_sdk import Device
from device_sdk.errors import NoMatch
from mpc.login.authenticator_data import AAGUID, cose_rsa_key

Verifier = Callable[[RelyingParty, Any, Any, Any], bool]
VERIFIERS = [pytest.param(by_py_webauthn, id="py_webauthn"), pytest.param(by_fido2, id="fido2")]
SHOP = RelyingParty("shop.example")
PERSON = Person(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with attesting_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def device(server: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with enrolled_device(server, tmp_path_factory.mktemp("device"), PERSON) as enrolled:
        yield enrolled


def registered(device: Device, user: bytes = b"user-1", **wanted: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    options = SHOP.creation_options(user=user, **wanted)
    return options, device.create(options, SHOP.origin, PERSON.capture())


@pytest.fixture(scope="module")
def genuine(device: Device) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options, answer) of one attested registration."""
    return registered(device)


class TestAccepted:
    @pytest.mark.parametrize("algorithm", [-257, -37], ids=["RS256", "PS256"])
    @pytest.mark.parametrize("preference", ["direct", "indirect", "enterprise"])
    def test_by_both_libraries_and_the_passkey_works(
        self, server: ThreadServer, device: Device, algorithm: int, preference: str
    ) -> None:
        options, answer = registered(device, attestation=preference, algorithms=(algorithm,))
        statement = statement_of(server)

        told = attested_object(answer)
        assert (told["fmt"], set(told["attStmt"]), told["attStmt"]["alg"]) == ("packed", {"alg", "sig", "x5c"}, -7)
        assert len(told["attStmt"]["x5c"]) == 1, "the root is the relying party's to have"
        assert told["authData"][37:53] == AAGUID
        assert by_py_webauthn(SHOP, options, answer, statement)
        assert by_fido2(SHOP, options, answer, statement)

        party = RelyingParty("shop.example")
        party.known[websafe_decode(answer["rawId"])] = self.account(answer)
        wanted = party.request_options()
        party.authenticate(wanted, device.get(wanted, party.origin, PERSON.capture()))

    @staticmethod
    def account(answer: dict[str, Any]) -> Any:
        data = AuthenticatorData(attested_object(answer)["authData"])
        return data.credential_data, data.counter

    def test_none_where_the_relying_party_asks_for_none(self, device: Device) -> None:
        _, answer = registered(device, attestation="none")
        assert attested_object(answer)["fmt"] == "none"
        assert attested_object(answer)["attStmt"] == {}

    def test_one_certificate_for_everybody(
        self, server: ThreadServer, device: Device, genuine: tuple[Any, Any], tmp_path: Path
    ) -> None:
        """One of a device's own would follow its user from site to site."""
        with enrolled_device(server, tmp_path, PERSON) as another:
            _, other = registered(another)
        chains = [attested_object(answer)["attStmt"]["x5c"] for answer in (genuine[1], other)]
        assert chains[0] == chains[1]

    def test_after_a_renewal_with_the_same_statement(self, server: ThreadServer, device: Device) -> None:
        statement = statement_of(server)
        before = attested_object(registered(device)[1])["attStmt"]["x5c"]
        attestation.renew(server.context)
        options, answer = registered(device)

        assert attested_object(answer)["attStmt"]["x5c"] != before
        assert by_py_webauthn(SHOP, options, answer, statement)
        assert by_fido2(SHOP, options, answer, statement)


def signature(answer: Any) -> Any:
    return tampered(answer, lambda told: told["attStmt"].update(sig=flipped(told["attStmt"]["sig"], -1)))


def data_changed(at: int) -> Callable[[Any], Any]:
    return lambda answer: tampered(answer, lambda told: told.update(authData=flipped(told["authData"], at)))


def another_key(answer: Any) -> Any:
    """A key that nobody made jointly, in the place of the one that was."""

    def change(told: dict[str, Any]) -> None:
        own = cose_rsa_key(-257, (1 << 2047) + 12_345, 65537)
        told["authData"] = told["authData"][: -len(own)] + own

    return tampered(answer, change)


def swapped_aaguid(answer: Any) -> Any:
    def change(told: dict[str, Any]) -> None:
        told["authData"] = told["authData"][:37] + bytes(range(16)) + told["authData"][53:]

    return tampered(answer, change)


TAMPERED: dict[str, Callable[[Any], Any]] = {
    "signature": signature,
    "relying party": data_changed(0),
    "counter": data_changed(36),
    "credential id": data_changed(60),
    "a key that was not made jointly": another_key,
    "AAGUID": swapped_aaguid,
}


class TestRefused:
    @pytest.mark.parametrize("verify", VERIFIERS)
    @pytest.mark.parametrize("name", TAMPERED)
    def test_a_tampered_one(self, server: ThreadServer, genuine: tuple[Any, Any], name: str, verify: Verifier) -> None:
        options, answer = genuine
        assert verify(SHOP, options, answer, statement_of(server))
        try:
            accepted = verify(SHOP, options, TAMPERED[name](answer), statement_of(server))
        except ValueError:  # fido2 compares the relying party and the id before it comes to the attestation
            accepted = False
        assert not accepted

    @pytest.mark.parametrize("verify", VERIFIERS)
    def test_against_the_root_of_another_operator(
        self, server: ThreadServer, genuine: tuple[Any, Any], tmp_path: Path, verify: Verifier
    ) -> None:
        options, answer = genuine
        with attesting_server(tmp_path) as other:
            assert not verify(SHOP, options, answer, statement_of(other))

    @pytest.mark.parametrize("verify", VERIFIERS)
    @pytest.mark.parametrize("aaguid", [AAGUID, bytes(16)], ids=["our AAGUID", "another AAGUID"])
    def test_signed_by_a_certificate_that_another_root_gave(
        self, server: ThreadServer, genuine: tuple[Any, Any], verify: Verifier, aaguid: bytes
    ) -> None:
        """Right in every form, under the same names; only the root's key is another."""
        options, answer = genuine
        own = attestation.current(server.context)
        other = OtherAuthority(own.root, own.certificate)
        client_data = hashlib.sha256(websafe_decode(answer["response"]["clientDataJSON"])).digest()

        def change(told: dict[str, Any]) -> None:
            told["attStmt"] = {
                "alg": -7,
                "sig": other.sign(told["authData"] + client_data),
                "x5c": [other.certificate(aaguid)],
            }

        assert not verify(SHOP, options, tampered(answer, change), statement_of(server))

    def test_self_attestation_under_our_aaguid(self, server: ThreadServer, tmp_path: Path) -> None:
        """Anybody can make it. fido2 wants a chain; py_webauthn wants none, so the relying party must ask for x5c."""
        with thread_server(tmp_path) as without, enrolled_device(without, tmp_path, PERSON) as device:
            options, answer = registered(device)
        assert set(attested_object(answer)["attStmt"]) == {"alg", "sig"}

        assert not by_fido2(SHOP, options, answer, statement_of(server))
        assert by_py_webauthn(SHOP, options, answer, statement_of(server)), "which docs/relying-parties.md warns of"

    def test_for_another_challenge(self, server: ThreadServer, genuine: tuple[Any, Any]) -> None:
        """An attested registration is good for the one challenge that it answers."""
        other = SHOP.creation_options()
        for verify in (by_py_webauthn, by_fido2):
            try:
                accepted = verify(SHOP, other, genuine[1], statement_of(server))
            except ValueError:
                accepted = False
            assert not accepted


def test_no_attestation_leaves_without_a_match(server: ThreadServer, device: Device) -> None:
    with pytest.raises(NoMatch):
        device.create(SHOP.creation_options(user=b"nobody"), SHOP.origin, Person(2).capture())


def test_the_object_is_canonical(genuine: tuple[Any, Any]) -> None:
    encoded = websafe_decode(genuine[1]["response"]["attestationObject"])
    assert cbor.encode(cbor.decode(encoded)) == encoded
