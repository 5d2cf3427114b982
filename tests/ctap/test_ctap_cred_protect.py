"""credProtect: who may learn of a passkey before the person is verified. Nothing is ever signed without a match."""

from __future__ import annotations

import pytest
from ctap_site import Finger, Site, Traces, plain, refused
from fido2.client import ClientError
from fido2.ctap import CtapError
from fido2.ctap2.extensions import CredProtectExtension
from people import Person

from device_sdk import Device
from device_sdk.ctap import TandemCtapDevice

ERR = CtapError.ERR
MAKE, GET = 1, 2
LEVELS = {
    1: "userVerificationOptional",
    2: "userVerificationOptionalWithCredentialIDList",
    3: "userVerificationRequired",
}


def register(site: Site, level: int, user: str = "ann") -> bytes:
    return site.register(user, extensions={"credentialProtectionPolicy": LEVELS[level]})


@pytest.mark.parametrize("level", LEVELS)
def test_the_level_is_signed_kept_and_told_to_the_verified(shop: Site, device: Device, level: int) -> None:
    made = shop.raw_make(None, extensions={"credProtect": level}, options={"rk": True})

    assert made.auth_data.extensions == {"credProtect": level}
    assert [info.cred_protect for info in device.credentials()] == [level]
    listed = shop.management().enumerate_creds_begin(made.auth_data.rp_id_hash)
    assert listed[0x0A] == level


@pytest.mark.parametrize("level", LEVELS)
def test_the_whole_round_with_the_ordinary_client(shop: Site, level: int) -> None:
    assert CredProtectExtension().is_supported(shop.ctap())
    known = register(shop, level)

    assert shop.sign_in(allow=[known]) == known
    assert shop.sign_in() == known
    assert shop.sign_in(allow=[known], verification="discouraged") == known
    with pytest.raises(ClientError) as fault:
        shop.register("bob", exclude=[known])
    assert fault.value.code == ClientError.ERR.DEVICE_INELIGIBLE


def test_what_is_found_silently_without_a_token(shop: Site, finger: Finger, traces: Traces) -> None:
    made = {level: register(shop, level, user=f"user{level}") for level in LEVELS}
    asked = len(finger.asked)
    traces.since()

    def found(*ids: bytes) -> list[bytes]:
        allow = {"allow_list": plain(*ids)} if ids else {}
        try:
            return [
                one.credential["id"]
                for one in shop.ctap().get_assertions("shop.example", bytes(32), options={"up": False}, **allow)
            ]
        except CtapError as fault:
            assert fault.code == ERR.NO_CREDENTIALS
            return []

    assert [found(made[level]) for level in LEVELS] == [[made[1]], [made[2]], []]
    assert found(made[3], made[2]) == [made[2]]
    assert found() == [made[1]]
    assert len(finger.asked) == asked and traces.since() == (0, 0)


class TestWhereAPasskeyIsGuarded:
    """The answer must be the same for a relying party that has one and for one that has none."""

    @pytest.fixture(params=[2, 3])
    def guarded(self, request: pytest.FixtureRequest, shop: Site) -> bytes:
        return register(shop, request.param)

    def test_a_stranger_learns_nothing_from_a_token(
        self, shop: Site, guarded: bytes, finger: Finger, traces: Traces
    ) -> None:
        traces.since()
        finger.person = Person(2)
        for rp_id in ("shop.example", "bank.example"):
            with refused(ERR.UV_INVALID):
                shop.token(GET, rp_id)
            with refused(ERR.UV_INVALID):
                shop.token(MAKE | GET, rp_id)
        assert traces.since()[0] == 4

    def test_a_stranger_learns_nothing_without_one(
        self, shop: Site, guarded: bytes, finger: Finger, traces: Traces
    ) -> None:
        traces.since()
        finger.person = Person(2)
        for wanted in (
            {},
            {"rp_id": "bank.example"},
            {"allow_list": plain(guarded)},
            {"allow_list": plain(b"x" * 32)},
            {"options": {"uv": True}},
        ):
            with refused(ERR.OPERATION_DENIED):
                shop.raw_get(None, **wanted)
            assert traces.since() == (1, 1)

    def test_each_login_has_a_capture_of_its_own(
        self, shop: Site, guarded: bytes, finger: Finger, traces: Traces, device: Device
    ) -> None:
        """One for the match that is shown and signs for nobody, one for the signature."""
        finger.given.clear()
        traces.since()
        assert shop.sign_in(allow=[guarded]) == guarded
        assert traces.since() == (2, 2)
        assert shop.raw_get(None).auth_data.is_user_verified()
        assert traces.since() == (2, 2)
        assert len(set(finger.given)) == len(finger.given) == 4
        assert [login.kind for login in device.history().logins[:4]] == ["get", "verify", "get", "verify"]

    def test_a_stranger_after_the_match_that_was_shown(self, shop: Site, guarded: bytes, finger: Finger) -> None:
        token = shop.token(GET)
        finger.person = Person(2)
        assert shop.raw_get(token, allow_list=plain(guarded), options={"up": False}).auth_data.flags == 0
        with refused(ERR.OPERATION_DENIED):
            shop.raw_get(token)
        with refused(ERR.PIN_AUTH_INVALID):
            shop.raw_get(token)

    def test_registering_needs_no_second_capture(self, shop: Site, guarded: bytes, traces: Traces) -> None:
        traces.since()
        shop.register("bob")
        assert traces.since()[0] == 1

    def test_one_that_is_made_later_is_not_found_by_a_token_from_before(
        self, shop: Site, device: Device, finger: Finger, traces: Traces
    ) -> None:
        """The token holds a capture that nobody has matched."""
        finger.person = Person(2)
        token = shop.token(GET)
        with TandemCtapDevice(device, Finger(Person(1))) as other:
            made = register(Site(other), 3)
        with refused(ERR.NO_CREDENTIALS):
            shop.raw_get(token, allow_list=plain(made), options={"up": False})
        with refused(ERR.OPERATION_DENIED):
            shop.raw_get(token, allow_list=plain(made))


@pytest.mark.parametrize(
    ("level", "status"),
    [
        (0, ERR.INVALID_PARAMETER),
        (4, ERR.INVALID_PARAMETER),
        (-1, ERR.INVALID_PARAMETER),
        ("3", ERR.CBOR_UNEXPECTED_TYPE),
        (True, ERR.CBOR_UNEXPECTED_TYPE),
    ],
)
def test_a_level_that_there_is_not(shop: Site, finger: Finger, level: object, status: ERR) -> None:
    with refused(status):
        shop.raw_make(None, extensions={"credProtect": level})
    assert not finger.asked


def test_other_extensions_are_ignored(shop: Site) -> None:
    made = shop.raw_make(None, extensions={"hmac-secret": True, "credBlob": b"x", "later": [1]}, options={"rk": True})
    assert made.auth_data.extensions is None
    assert shop.raw_get(None, extensions={"hmac-secret": {1: 2}, "getCredBlob": True}).auth_data.extensions is None
