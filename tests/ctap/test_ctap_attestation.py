"""Attestation by certificate through a CTAP client, and the metadata statement beside GetInfo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from attested import attesting_server, statement_of, verifier
from ctap_site import Finger, Site
from fido2.client import DefaultClientDataCollector, Fido2Client
from fido2.server import Fido2Server
from fido2.webauthn import PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity
from people import Person, enrolled_device
from real_server import ThreadServer

from device_sdk.ctap import TandemCtapDevice


@pytest.fixture(scope="module")
def attesting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with attesting_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def authenticator(attesting: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TandemCtapDevice]:
    with (
        enrolled_device(attesting, tmp_path_factory.mktemp("device"), Person(1)) as device,
        TandemCtapDevice(device, Finger(Person(1))) as opened,
    ):
        yield opened


@pytest.mark.parametrize("preference", ["direct", "enterprise"])
def test_a_client_gets_it(attesting: ThreadServer, authenticator: TandemCtapDevice, preference: Any) -> None:
    """fido2.server verifies it against the statement."""
    server = Fido2Server(
        PublicKeyCredentialRpEntity(name="Site", id="shop.example"),
        attestation=preference,
        verify_attestation=verifier(statement_of(attesting)),
    )
    user = PublicKeyCredentialUserEntity(name="ann", id=preference.encode(), display_name="Ann")
    options, state = server.register_begin(user, user_verification="required")
    client = Fido2Client(authenticator, DefaultClientDataCollector("https://shop.example"))
    answer = client.make_credential(options.public_key)

    assert server.register_complete(state, answer).is_user_verified()
    assert set(answer.response.attestation_object.att_stmt) == {"alg", "sig", "x5c"}


@pytest.mark.parametrize(("formats", "given"), [(["none"], 0), (["packed", "none"], 1)])
def test_a_client_that_prefers_none_asks_the_server_for_none(
    attesting: ThreadServer, authenticator: TandemCtapDevice, formats: list[str], given: int
) -> None:
    query = "SELECT 1 FROM events WHERE name = 'attestation_sealed'"
    before = len(attesting.database.rows(query))
    params = [{"alg": -257, "type": "public-key"}]
    wanted = {1: bytes(32), 2: {"id": "shop.example"}, 3: {"id": b"u"}, 4: params, 0x0B: formats}
    made = Site(authenticator).ctap().send_cbor(0x01, wanted)

    assert made[1] == ("packed" if given else "none")
    assert len(attesting.database.rows(query)) == before + given


def test_the_statement_says_what_the_authenticator_answers(
    attesting: ThreadServer, authenticator: TandemCtapDevice
) -> None:
    """What a relying party reads there must not be another authenticator's."""
    told = statement_of(attesting)["authenticatorGetInfo"]
    info = Site(authenticator).ctap().info

    assert told["versions"] == info.versions
    assert told["options"] == info.options
    assert told["aaguid"] == bytes(info.aaguid).hex()
    assert told["transports"] == info.transports
    assert told["pinUvAuthProtocols"] == info.pin_uv_protocols
    assert told["maxCredentialIdLength"] == info.max_cred_id_length
    assert set(told["extensions"]) <= set(info.extensions)
