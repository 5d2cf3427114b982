"""Who gets an attestation by certificate through the SDK: dealt keys, keys of the device's own, and nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fido2 import cbor
from state_machine_dealer import deal
from state_machine_harness import (
    FACE,
    LOGINS,
    ORIGIN,
    STRANGER,
    Clock,
    HeldLogin,
    Phone,
    Server,
    creation_options,
    lose_answer,
    opened_message,
    unbase64,
)

from authsvc.policy import AttestationScope
from authsvc.services import attestation
from authsvc.services.secrets_at_rest import open_key_share, seal_key_share
from authsvc.store.credentials import CredentialRow, set_credential_share
from device_sdk.errors import NoMatch, ServerMisbehaved, TransportError


@pytest.fixture
def attesting(server: Server) -> Server:
    attestation.create(server.ctx, country="DE", organization="Beispiel GmbH")
    return server


def scoped(server: Server, scope: AttestationScope) -> None:
    server.ctx = replace(server.ctx, policy=replace(server.ctx.policy, attestation=scope))


def statement(phone: Phone, user: str = "grace", preference: str = "direct", face: Any = FACE) -> dict[str, Any]:
    """The attestation statement of a new passkey; {} for fmt none."""
    answer = phone.device.create({**creation_options(user), "attestation": preference}, ORIGIN, face)
    read = cbor.decode(unbase64(answer["response"]["attestationObject"]))
    assert isinstance(read, dict)
    phone.relying_party.register(answer)
    told: dict[str, Any] = read["attStmt"]
    return told


def sealed_events(server: Server, phone: Phone) -> int:
    return server.events(phone.id).count("attestation_sealed")


def test_a_key_of_the_phones_own(phone: Phone, attesting: Server) -> None:
    assert set(statement(phone)) == {"alg", "sig", "x5c"}
    assert phone.confirm() and sealed_events(attesting, phone) == 1
    told = {event.name for event in phone.device.history().events}
    assert {"attestation_sealed", "login_answered"} <= told, "the user reads it in the history, which is whole"


def test_a_key_that_was_dealt_and_only_that_where_the_policy_says_so(phone: Phone, attesting: Server) -> None:
    scoped(attesting, "provisioned")
    dealt = deal(attesting.ctx, [phone.device.recipient()])
    dealt.import_into(attesting.ctx)
    phone.device.import_share(dealt.device_file())

    assert set(statement(phone)) == {"alg", "sig", "x5c"}, "the dealt key"
    assert phone.confirm()
    assert set(statement(phone, "of its own")) == {"alg", "sig"}


@pytest.mark.parametrize("preference", ["none", "a later word"])
def test_nobody_asks_for_what_the_relying_party_does_not_want(phone: Phone, attesting: Server, preference: str) -> None:
    """An old server does not know the field, and need not as long as nobody wants an attestation."""
    assert statement(phone, preference=preference) == {}
    assert not opened_message(phone.network.sent(LOGINS)[-1]).statement.attest
    assert sealed_events(attesting, phone) == 0


def test_without_an_authority_self_attestation(phone: Phone, server: Server) -> None:
    assert set(statement(phone)) == {"alg", "sig"}
    assert opened_message(phone.network.sent(LOGINS)[-1]).statement.attest


def test_without_a_match_nothing(phone: Phone, attesting: Server) -> None:
    with pytest.raises(NoMatch):
        statement(phone, face=STRANGER)
    assert [each.provisional for each in phone.state.credentials] == [False]


def test_a_lost_answer_costs_the_attestation_with_the_passkey(phone: Phone, attesting: Server) -> None:
    phone.network.plan(LOGINS, lose_answer)
    with pytest.raises(TransportError):
        statement(phone)
    assert set(statement(phone)) == {"alg", "sig", "x5c"}
    assert sealed_events(attesting, phone) == 2, "the one that nobody opened is in the record too"


def test_the_server_renews_its_certificate_when_somebody_registers(
    phone: Phone, attesting: Server, clock: Clock
) -> None:
    first = statement(phone)["x5c"]
    assert phone.confirm()
    clock.advance(600 * 86_400)
    second = statement(phone)["x5c"]
    assert phone.confirm()
    assert first != second == statement(phone)["x5c"]


def test_an_attestation_that_does_not_hold_is_the_servers_fault(
    phone: Phone, attesting: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better no passkey than one that its site will refuse; and the server hears nothing of why."""
    genuine = attestation.attested

    def over_other_bytes(by: Any, scope: Any, credential: Any, profile: Any, told: Any) -> Any:
        return genuine(by, scope, credential, profile, replace(told, client_data_hash=bytes(32)))

    monkeypatch.setattr("authsvc.services.login.attested", over_other_bytes)
    sent = len(phone.network.requests)
    with pytest.raises(ServerMisbehaved, match="attestation"):
        statement(phone)
    assert [each.provisional for each in phone.state.credentials] == [False]
    assert [request.path for request in phone.network.requests[sent:]] == ["/v1/credentials", LOGINS]


def test_an_answer_that_is_computed_again_is_attested_too(phone: Phone, attesting: Server) -> None:
    """The share was refreshed between computation and transaction: both are made anew for the current one."""
    held: list[HeldLogin] = []

    def hold(network: Any, request: Any) -> Any:
        login = HeldLogin(attesting, request)
        held.append(login)
        row = login._snapshot.credential
        with attesting.store.write() as conn:
            set_credential_share(conn, row.id, sealed_again(attesting, row), row.status)
        return login.release()

    phone.network.plan(LOGINS, hold)
    assert set(statement(phone)) == {"alg", "sig", "x5c"}
    assert held and sealed_events(attesting, phone) == 1


def sealed_again(server: Server, row: CredentialRow) -> bytes:
    """The same share, sealed once more: another value of the column."""
    key = server.ctx.data_key(row.enrolment_id)
    return seal_key_share(key, row.id, open_key_share(key, row))
