"""Credential management by python-fido2's client, and who may not have it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from ctap_site import Finger, Site, Traces, descriptor, plain, refused
from fido2.cose import CoseKey
from fido2.ctap import CtapError
from fido2.ctap2.credman import CredentialManagement
from fido2.webauthn import PublicKeyCredentialUserEntity
from people import Person
from real_server import ThreadServer

from device_sdk import Device
from device_sdk.ctap import Prompt, Purpose, Status, TandemCtapDevice
from device_sdk.errors import NoMatch

ERR, RESULT = CtapError.ERR, CredentialManagement.RESULT
MAKE, GET, MANAGE = 1, 2, 4
SHOP, BANK = (hashlib.sha256(rp_id.encode()).digest() for rp_id in ("shop.example", "bank.example"))


@pytest.fixture
def bank(authenticator: TandemCtapDevice) -> Site:
    return Site(authenticator, "bank.example")


def test_relying_parties_and_passkeys(shop: Site, bank: Site, finger: Finger, traces: Traces) -> None:
    made = [shop.register("ann"), shop.register("bob"), bank.register("ann")]
    hidden = shop.register("ann", resident=False)
    traces.since()

    management = shop.management()
    assert finger.asked[-1] == Prompt(Purpose.MANAGE)
    assert traces.since() == (1, 1)

    assert dict(management.get_metadata()) == {
        RESULT.EXISTING_CRED_COUNT: 3,
        RESULT.MAX_REMAINING_COUNT: 1024 - 4,
    }
    parties = management.enumerate_rps()
    assert [(one[RESULT.RP], one[RESULT.RP_ID_HASH]) for one in parties] == [
        ({"id": "bank.example"}, BANK),
        ({"id": "shop.example"}, SHOP),
    ]
    at_shop = management.enumerate_creds(SHOP)
    assert {one[RESULT.CREDENTIAL_ID]["id"] for one in at_shop} == set(made[:2])
    assert hidden not in {one[RESULT.CREDENTIAL_ID]["id"] for one in at_shop}
    for one in at_shop:
        assert CoseKey.parse(one[RESULT.PUBLIC_KEY]) == shop.known[one[RESULT.CREDENTIAL_ID]["id"]].public_key
        assert one[RESULT.CRED_PROTECT] == 1
    assert {one[RESULT.USER]["name"]: one[RESULT.USER]["displayName"] for one in at_shop} == {
        "ann": "Ann", "bob": "Bob",
    }  # fmt: skip
    assert traces.since() == (0, 0)


def test_delete_takes_the_server_s_half(shop: Site, server: ThreadServer, device: Device) -> None:
    gone, kept = shop.register("ann"), shop.register("bob")
    shop.sign_in(allow=[gone])
    device.confirm_now()
    management = shop.management()

    management.delete_cred(descriptor(gone))

    row = server.database.one("SELECT status, sealed_share FROM credentials WHERE id = ?", gone)
    assert row == {"status": "revoked", "sealed_share": None}
    assert [one[RESULT.CREDENTIAL_ID]["id"] for one in management.enumerate_creds(SHOP)] == [kept]
    with refused(ERR.NO_CREDENTIALS):
        management.delete_cred(descriptor(gone))
    management.delete_cred(descriptor(kept))
    assert management.enumerate_rps() == [] and management.enumerate_creds(SHOP) == []


def test_rename(shop: Site, device: Device) -> None:
    known = shop.register("ann")
    hidden = shop.register("ann", resident=False)
    management = shop.management()

    management.update_user_info(
        descriptor(known), PublicKeyCredentialUserEntity(id=b"ann", name="anna", display_name="Anna A.")
    )
    (listed,) = management.enumerate_creds(SHOP)
    assert dict(listed[RESULT.USER]) == {"id": b"ann", "name": "anna", "displayName": "Anna A."}
    names = {info.credential_id: info.user_name for info in device.credentials()}
    assert names == {known: "anna", hidden: "ann"}

    management._call(7, {2: plain(known)[0], 3: {"id": b"ann"}})  # a name that is left out is taken away
    assert dict(management.enumerate_creds(SHOP)[0][RESULT.USER]) == {"id": b"ann"}
    with refused(ERR.INVALID_PARAMETER):
        management.update_user_info(descriptor(known), PublicKeyCredentialUserEntity(id=b"eve", name="eve"))
    for other in (hidden, b"x" * 32):
        with refused(ERR.NO_CREDENTIALS):
            management.update_user_info(descriptor(other), PublicKeyCredentialUserEntity(id=b"ann", name="x"))
    assert shop.sign_in(allow=[known]) == known


def test_a_stranger_manages_nothing(
    shop: Site, finger: Finger, traces: Traces, authenticator: TandemCtapDevice
) -> None:
    shop.register()
    traces.since()
    finger.person = Person(2)

    with refused(ERR.UV_INVALID):
        shop.management()
    assert isinstance(authenticator.last_fault, NoMatch)
    assert traces.since() == (1, 1)


def test_a_token_from_before_there_was_anything_to_manage(shop: Site, device: Device, finger: Finger) -> None:
    """No match could be shown for it, so it is good for an empty vault only."""
    finger.person = Person(2)
    management = shop.management()
    assert management.get_metadata()[RESULT.EXISTING_CRED_COUNT] == 0
    assert management.enumerate_rps() == []

    finger.person = Person(1)
    _made_behind_its_back(device)
    for asked in (management.get_metadata, management.enumerate_rps, lambda: management.enumerate_creds(SHOP)):
        with refused(ERR.PIN_AUTH_INVALID):
            asked()


def _made_behind_its_back(device: Device) -> None:
    """By another face of the same device, so that the token stays."""
    with TandemCtapDevice(device, Finger(Person(1))) as other:
        Site(other).register("ann")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (lambda it, _: it.get_metadata(), ERR.PIN_AUTH_INVALID),
        (lambda it, _: it.enumerate_rps_begin(), ERR.PIN_AUTH_INVALID),
        (lambda it, _: it.enumerate_creds_begin(SHOP), ERR.PIN_AUTH_INVALID),
        (lambda it, _: it.enumerate_creds_begin(bytes(32)), ERR.PIN_AUTH_INVALID),
        (lambda it, at_shop: it.delete_cred(descriptor(at_shop)), ERR.NO_CREDENTIALS),
        (
            lambda it, at_shop: it.update_user_info(
                descriptor(at_shop), PublicKeyCredentialUserEntity(id=b"ann", name="x")
            ),
            ERR.NO_CREDENTIALS,
        ),
    ],
)
def test_a_token_for_one_relying_party_says_nothing_of_others(
    shop: Site,
    bank: Site,
    device: Device,
    asked: Callable[[CredentialManagement, bytes], object],
    status: ERR,
) -> None:
    at_shop, at_bank = shop.register("ann"), bank.register("ann")
    before = device.credentials()
    management = bank.management(bank.token(MANAGE))

    with refused(status):
        asked(management, at_shop)
    assert [one[RESULT.CREDENTIAL_ID]["id"] for one in management.enumerate_creds(BANK)] == [at_bank]
    assert {info.credential_id: info.user_name for info in device.credentials()} == {
        info.credential_id: info.user_name for info in before
    }


def test_a_parameter_of_another_command(shop: Site, device: Device) -> None:
    """What was authenticated for a list deletes nothing."""
    known = shop.register()
    management = shop.management()
    listing = management.pin_uv.protocol.authenticate(management.pin_uv.token, b"\x01")
    for params in (None, {2: {"id": known, "type": "public-key"}}):
        with refused(ERR.PIN_AUTH_INVALID):
            shop.ctap().credential_mgmt(6, params, 2, listing)
    for sub_command in (1, 2, 4, 6, 7):
        with refused(ERR.PUAT_REQUIRED):
            shop.ctap().credential_mgmt(sub_command)
    with refused(ERR.INVALID_SUBCOMMAND):
        shop.ctap().credential_mgmt(8)
    assert [info.credential_id for info in device.credentials()] == [known]


def test_the_next_of_nothing(shop: Site, bank: Site) -> None:
    for user in ("ann", "bob"):
        shop.register(user)
    bank.register()
    management = shop.management()

    for begin, other in (
        (management.enumerate_rps_begin, b"\x0a\xa1\x01\x05"),
        (lambda: management.enumerate_creds_begin(SHOP), b"\x0a\xa1\x01\x03"),
        (lambda: None, b"\x0a\xa1\x01\x03"),
        (lambda: None, b"\x0a\xa1\x01\x05"),
    ):
        begin()
        assert shop.authenticator.call(0x10, other) == bytes([Status.CTAP2_ERR_NOT_ALLOWED])
