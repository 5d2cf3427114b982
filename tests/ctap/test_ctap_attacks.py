"""A client that does as it likes, and people who are not who they should be: no door gives a signature without a match.

The server's books are the witness: how many attempts it counted, and what it was asked.
"""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from ctap_site import Clock, Finger, Site, Traces, authenticated, plain, refused
from fido2 import cbor
from fido2.ctap import CtapError
from fido2.ctap2.pin import ClientPin
from people import Person
from real_server import wait_until

from device_sdk import Device
from device_sdk.ctap import Purpose, Status, TandemCtapDevice, tokens
from device_sdk.errors import NoMatch

ERR = CtapError.ERR
MAKE, GET, MANAGE = 1, 2, 4
STRANGER = Person(2)


class TestTheSilentQuestion:
    @pytest.mark.parametrize("with_token", [False, True])
    def test_its_answer_is_signed_by_nobody(
        self, shop: Site, finger: Finger, device: Device, traces: Traces, with_token: bool
    ) -> None:
        known = shop.register()
        token = shop.token(GET) if with_token else None
        before, asked = device.credentials(), len(finger.asked)
        traces.since()

        answers = [
            shop.raw_get(token, allow_list=plain(known), options={"up": False}, hashed=hashed)
            for hashed in (bytes(32), b"h" * 32)
        ]

        for answer, hashed in zip(answers, (bytes(32), b"h" * 32), strict=True):
            assert answer.auth_data.flags == 0 and len(answer.auth_data) == 37
            assert answer.credential["id"] == known
            assert len(answer.signature) == 256
            with pytest.raises(InvalidSignature):
                answer.verify(hashed, shop.known[known].public_key)
        assert answers[0].signature != answers[1].signature
        assert traces.since() == (0, 0)
        assert len(finger.asked) == asked
        assert device.credentials() == before

    def test_it_leaves_the_token_as_it_was(self, shop: Site, finger: Finger, traces: Traces) -> None:
        known = shop.register()
        traces.since()
        token = shop.token(GET)
        for _ in range(3):
            shop.raw_get(token, allow_list=plain(known), options={"up": False})
        assert shop.raw_get(token).auth_data.is_user_verified()
        assert traces.since() == (1, 1)

    def test_it_finds_nothing_that_is_not_here(self, shop: Site, authenticator: TandemCtapDevice) -> None:
        known = shop.register()
        with refused(ERR.NO_CREDENTIALS):
            shop.raw_get(None, allow_list=plain(b"x" * 32), options={"up": False})
        with refused(ERR.NO_CREDENTIALS):
            Site(authenticator, "bank.example").raw_get(None, allow_list=plain(known), options={"up": False})

    def test_verified_without_presence_is_not_to_be_had(self, shop: Site, finger: Finger) -> None:
        shop.register()
        finger.asked.clear()
        with refused(ERR.UNSUPPORTED_OPTION):
            shop.raw_get(None, options={"up": False, "uv": True})
        with refused(ERR.INVALID_OPTION):
            shop.raw_make(None, options={"up": False})
        assert not finger.asked


class TestTokens:
    def test_one_for_another_relying_party(self, shop: Site, finger: Finger, traces: Traces) -> None:
        bank = Site(shop.authenticator, "bank.example")
        shop.register()
        bank.register()
        token = shop.token(MAKE | GET)
        asked = len(finger.asked)
        traces.since()

        for door in (
            lambda: bank.raw_get(token),
            lambda: bank.raw_get(token, options={"up": False}),
            lambda: bank.raw_make(token),
        ):
            with refused(ERR.PIN_AUTH_INVALID):
                door()

        assert traces.since() == (0, 0) and len(finger.asked) == asked
        shop.raw_get(token)

    @pytest.mark.parametrize(
        ("permissions", "door"), [(MAKE, "raw_get"), (GET, "raw_make"), (MANAGE, "raw_get"), (MANAGE, "raw_make")]
    )
    def test_one_for_something_else(self, shop: Site, traces: Traces, permissions: int, door: str) -> None:
        shop.register()
        token = shop.token(permissions)
        traces.since()

        with refused(ERR.PIN_AUTH_INVALID):
            getattr(shop, door)(token)
        assert traces.since() == (0, 0)

    @pytest.mark.parametrize(
        ("permissions", "told", "door", "told_then"),
        [
            (MAKE | GET, Purpose.REGISTER, "raw_get", Purpose.SIGN_IN),
            (MAKE | MANAGE, Purpose.MANAGE, "raw_make", Purpose.REGISTER),
        ],
    )
    def test_a_capture_that_the_person_gave_for_something_else(
        self, shop: Site, finger: Finger, traces: Traces, permissions: int, told: Purpose, door: str, told_then: Purpose
    ) -> None:
        """Clients ask for a token for both where passkeys are excluded. Who agreed to register has not signed in."""
        if told is Purpose.REGISTER:
            shop.register()
        traces.since()
        token = shop.token(permissions)
        assert finger.asked[-1].purpose is told
        finger.answer = lambda _: None

        with refused(ERR.OPERATION_DENIED):
            getattr(shop, door)(token)

        assert finger.asked[-1].purpose is told_then
        assert traces.since() == (0, 0)
        with refused(ERR.PIN_AUTH_INVALID):
            shop.raw_make(token)

    @pytest.mark.parametrize("permissions", [MAKE, GET, MAKE | GET])
    @pytest.mark.parametrize("level", ["userVerificationOptional", "userVerificationRequired"])
    def test_one_that_manages_nothing(self, shop: Site, permissions: int, level: str) -> None:
        """Whether or not a match was shown for it, as the second level makes it."""
        known = shop.register(extensions={"credentialProtectionPolicy": level})
        named = {2: plain(known)[0], 3: {"id": b"ann"}}
        management = shop.management(shop.token(permissions))
        for sub_command, params in ((1, None), (2, None), (4, {1: bytes(32)}), (6, named), (7, named)):
            with refused(ERR.PIN_AUTH_INVALID):
                management._call(sub_command, params)

    @pytest.mark.parametrize("door", ["raw_get", "raw_make"])
    def test_a_request_that_is_sent_again(self, shop: Site, finger: Finger, traces: Traces, door: str) -> None:
        shop.register()
        token = shop.token(MAKE | GET)
        getattr(shop, door)(token)
        asked = len(finger.asked)
        traces.since()

        for again in ("raw_get", "raw_make"):
            with refused(ERR.PIN_AUTH_INVALID):
                getattr(shop, again)(token)
        assert traces.since() == (0, 0) and len(finger.asked) == asked

    def test_the_wrong_finger_has_one_try_with_one_token(self, shop: Site, finger: Finger, traces: Traces) -> None:
        shop.register()
        traces.since()
        finger.person = STRANGER
        token = shop.token(GET)
        assert traces.since() == (0, 0)

        with refused(ERR.OPERATION_DENIED):
            shop.raw_get(token)
        with refused(ERR.PIN_AUTH_INVALID):
            shop.raw_get(token)
        assert traces.since() == (1, 1)

    def test_a_parameter_that_is_not_the_token_s(self, shop: Site, traces: Traces) -> None:
        shop.register()
        token = shop.token(GET)
        good = authenticated(token, b"h" * 32)
        flipped = bytes([good[0] ^ 1]) + good[1:]
        traces.since()

        for param in (authenticated(token, b"i" * 32), flipped, good[:16], good[:31], bytes(32)):
            with refused(ERR.PIN_AUTH_INVALID):
                shop.raw_get(token, pin_uv_param=param)
        with refused(ERR.INVALID_LENGTH):
            shop.raw_get(token, pin_uv_param=good + b"\x00")
        for protocol, status in ((1, ERR.INVALID_PARAMETER), (None, ERR.MISSING_PARAMETER)):
            with refused(status):
                shop.raw_get(token, pin_uv_protocol=protocol)
        assert traces.since() == (0, 0)
        shop.raw_get(token)

    def test_a_parameter_without_any_token(self, shop: Site, traces: Traces) -> None:
        shop.register()
        traces.since()
        for secret in (bytes(32), b""):
            with refused(ERR.PIN_AUTH_INVALID):
                shop.raw_get(secret)
        assert traces.since() == (0, 0)

    def test_the_one_before_is_void(self, shop: Site) -> None:
        shop.register()
        first = shop.token(GET)
        second = shop.token(GET)
        with refused(ERR.PIN_AUTH_INVALID):
            shop.raw_get(first)
        shop.raw_get(second)

    @pytest.mark.parametrize("permissions", [MAKE, GET, MANAGE])
    def test_an_expired_one(self, shop: Site, clock: Clock, traces: Traces, permissions: int) -> None:
        shop.register()
        token = shop.token(permissions)
        traces.since()
        clock.now += 29.9
        shop.ctap()
        clock.now += 0.1

        with refused(ERR.PIN_AUTH_INVALID):
            {MAKE: shop.raw_make, GET: shop.raw_get, MANAGE: lambda it: shop.management(it).get_metadata()}[
                permissions
            ](token)
        assert traces.since() == (0, 0)

    def test_one_for_management_lives_longer_once_it_was_used(self, shop: Site, clock: Clock) -> None:
        shop.register()
        management = shop.management()
        clock.now += 29
        management.get_metadata()
        clock.now += 570
        management.get_metadata()
        clock.now += 1
        with refused(ERR.PIN_AUTH_INVALID):
            management.get_metadata()

    def test_the_capture_is_let_go_of_by_itself(
        self, shop: Site, authenticator: TandemCtapDevice, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokens, "CAPTURE_LIFETIME_S", 0.05)
        shop.register()
        token = shop.token(GET)
        held = authenticator._session.tokens._token
        assert held is not None and held._capture is not None

        wait_until(lambda: authenticator._session.tokens._token is None)
        assert held._capture is None
        with refused(ERR.PIN_AUTH_INVALID):
            shop.raw_get(token)

    def test_closing_lets_go_of_it(self, shop: Site, authenticator: TandemCtapDevice, device: Device) -> None:
        shop.register()
        token = shop.token(GET)
        authenticator.close()
        with refused(ERR.PIN_AUTH_INVALID):
            shop.raw_get(token)
        assert device.credentials()

    @pytest.mark.parametrize(
        ("permissions", "rp_id", "status"),
        [
            (0, "shop.example", ERR.INVALID_PARAMETER),
            (0x80, "shop.example", ERR.INVALID_PARAMETER),
            (GET, None, ERR.MISSING_PARAMETER),
            (MAKE | MANAGE, None, ERR.MISSING_PARAMETER),
            (GET | 0x08, "shop.example", ERR.UNAUTHORIZED_PERMISSION),
            (0x10, None, ERR.UNAUTHORIZED_PERMISSION),
            (0x20, None, ERR.UNAUTHORIZED_PERMISSION),
            (MANAGE | 0x40, None, ERR.UNAUTHORIZED_PERMISSION),
            (GET, "SHOP.example", ERR.INVALID_PARAMETER),
            (GET, "127.0.0.1", ERR.INVALID_PARAMETER),
        ],
    )
    def test_what_is_not_given(
        self, shop: Site, finger: Finger, permissions: int, rp_id: str | None, status: ERR
    ) -> None:
        with refused(status):
            shop.token(permissions, rp_id)
        assert not finger.asked

    def test_a_point_that_is_not_on_the_curve(self, shop: Site, finger: Finger) -> None:
        key, _ = ClientPin(shop.ctap())._get_shared_secret()
        for bad in (
            {**key, -3: bytes(31) + b"\x01"},
            {**key, -2: bytes(32), -3: bytes(32)},
            {**key, 3: -7},
            {**key, 1: 3},
            {**key, -1: 2},
        ):
            with refused(ERR.INVALID_PARAMETER):
                shop.ctap().client_pin(2, 6, key_agreement=bad, permissions=GET, permissions_rpid="shop.example")
        assert not finger.asked

    def test_no_secret_shows_or_travels(self, shop: Site, authenticator: TandemCtapDevice) -> None:
        token = shop.token(MAKE)
        session = authenticator._session
        held = session.tokens._token
        assert held is not None

        for thing in (authenticator, session, session.tokens, session.verification, session.key_agreement, held):
            assert token.hex() not in repr(thing) and repr(token) not in repr(thing)
        for thing in (held, session.key_agreement):
            for copied in (pickle.dumps, copy.deepcopy):
                with pytest.raises(TypeError):
                    copied(thing)


class TestPeople:
    def test_who_declines_signs_nothing(self, shop: Site, finger: Finger, traces: Traces) -> None:
        shop.register()
        traces.since()
        finger.answer = lambda _: None
        for door in (lambda: shop.token(GET), lambda: shop.raw_get(None), lambda: shop.raw_make(None)):
            with refused(ERR.OPERATION_DENIED):
                door()
        assert traces.since() == (0, 0)

    def test_a_stranger_signs_nothing_at_any_door(
        self, shop: Site, finger: Finger, traces: Traces, device: Device, authenticator: TandemCtapDevice
    ) -> None:
        known = shop.register()
        traces.since()
        finger.person = STRANGER
        doors = (
            lambda: shop.raw_get(None),
            lambda: shop.raw_get(None, options={"uv": True}),
            lambda: shop.raw_get(None, options={"uv": False}),
            lambda: shop.raw_get(None, allow_list=plain(known)),
            lambda: shop.raw_get(shop.token(GET)),
            lambda: shop.raw_make(None),
            lambda: shop.raw_make(None, options={"rk": True, "uv": False}),
            lambda: shop.raw_make(None, exclude_list=plain(known)),
            lambda: shop.raw_make(shop.token(MAKE)),
        )
        for door in doors:
            with refused(ERR.OPERATION_DENIED):
                door()
            assert isinstance(authenticator.last_fault, NoMatch)
        assert traces.since()[0] == len(doors)
        assert [info.credential_id for info in device.credentials()] == [known]

    def test_a_stranger_after_the_first_of_several_accounts(self, shop: Site, finger: Finger) -> None:
        for user in ("ann", "bob", "eve"):
            shop.register(user)
        shop.raw_get(shop.token(GET))
        finger.person = STRANGER
        assert shop.authenticator.call(0x10, b"\x08") == bytes([Status.CTAP2_ERR_OPERATION_DENIED])
        finger.person = Person(1)
        assert shop.authenticator.call(0x10, b"\x08") == bytes([Status.CTAP2_ERR_NOT_ALLOWED])

    def test_a_capture_that_cannot_be_encoded(
        self, shop: Site, finger: Finger, traces: Traces, authenticator: TandemCtapDevice
    ) -> None:
        shop.register()
        traces.since()
        finger.answer = lambda _: [1, 2, 3]
        with refused(ERR.UV_INVALID):
            shop.token(GET)
        with refused(ERR.OPERATION_DENIED):
            shop.raw_get(None)
        assert authenticator.last_fault is not None and authenticator.last_fault.__traceback__ is None
        assert traces.since() == (0, 0)

    def test_an_app_that_fails_is_a_status(self, shop: Site, finger: Finger, authenticator: TandemCtapDevice) -> None:
        fault = RuntimeError("no camera")

        def broken(_: threading.Event) -> Any:
            raise fault

        finger.answer = broken
        for door in (lambda: shop.token(MAKE), lambda: shop.raw_make(None), lambda: shop.ctap().selection()):
            with refused(ERR.OTHER):
                door()
            assert authenticator.last_fault is fault and fault.__traceback__ is None

    def test_a_yes_must_be_one(self, shop: Site, finger: Finger, device: Device) -> None:
        """A function that forgets to return, or returns text, has agreed to nothing."""
        shop.register()
        for said in (None, "no", 1, b"\x01"):
            finger.confirm = lambda prompt, cancelled, said=said: said  # type: ignore[method-assign, assignment, return-value]
            with refused(ERR.OPERATION_DENIED):
                shop.ctap().reset()
        assert device.credentials()


class TestSequences:
    def test_nothing_to_go_on_with(self, shop: Site, clock: Clock, device: Device, traces: Traces) -> None:
        made = [shop.register(user) for user in ("ann", "bob")]

        def begun() -> None:
            shop.raw_get(shop.token(GET))
            traces.since()

        for spoilt in (
            lambda: None,
            lambda: (begun(), shop.authenticator.call(0x10, b"\x04")),
            lambda: (begun(), setattr(clock, "now", clock.now + 30)),
            lambda: shop.raw_get(shop.token(GET), allow_list=plain(*made)),
            lambda: (begun(), device.delete(made[0])),
        ):
            spoilt()
            attempts = traces.attempts()
            assert shop.authenticator.call(0x10, b"\x08") == bytes([Status.CTAP2_ERR_NOT_ALLOWED])
            assert traces.attempts() == attempts

    def test_it_ends_with_the_last(self, shop: Site) -> None:
        for user in ("ann", "bob"):
            shop.register(user)
        shop.raw_get(shop.token(GET))
        assert shop.authenticator.call(0x10, b"\x08")[0] == Status.CTAP2_OK
        assert shop.authenticator.call(0x10, b"\x08") == bytes([Status.CTAP2_ERR_NOT_ALLOWED])

    def test_the_silent_sequence_stays_silent(self, shop: Site, finger: Finger, traces: Traces) -> None:
        made = [shop.register(user) for user in ("ann", "bob")]
        asked = len(finger.asked)
        traces.since()

        assertions = shop.ctap().get_assertions("shop.example", b"h" * 32, options={"up": False})

        assert [one.credential["id"] for one in assertions] == made[::-1]
        for one in assertions:
            assert one.auth_data.flags == 0 and one.user is not None and set(one.user) == {"id"}
            with pytest.raises(InvalidSignature):
                one.verify(b"h" * 32, shop.known[one.credential["id"]].public_key)
        assert traces.since() == (0, 0) and len(finger.asked) == asked


def test_one_command_at_a_time(shop: Site, finger: Finger) -> None:
    shop.register()
    asked, go_on = threading.Event(), threading.Event()

    def slow(_: threading.Event) -> Any:
        asked.set()
        go_on.wait(10)
        return finger.person.capture()

    finger.answer = slow
    answers: list[bytes] = []
    request = _request(shop, "shop.example")
    first = threading.Thread(target=lambda: answers.append(shop.authenticator.call(0x10, request)))
    first.start()
    assert asked.wait(10)
    for command in (b"\x04", b"\x08", request):
        assert shop.authenticator.call(0x10, command) == bytes([Status.CTAP1_ERR_CHANNEL_BUSY])
    go_on.set()
    first.join(10)
    assert answers[0][0] == Status.CTAP2_OK


def _request(shop: Site, rp_id: str) -> bytes:
    """GetAssertion without a token, as bytes."""
    return b"\x02" + cbor.encode({1: rp_id, 2: b"h" * 32})


def test_a_key_of_its_own_for_every_device(shop: Site, device: Device, finger: Finger) -> None:
    """A token of one authenticator over a vault is nothing to another."""
    shop.register()
    token = shop.token(GET)
    with TandemCtapDevice(device, finger) as other, refused(ERR.PIN_AUTH_INVALID):
        Site(other).raw_get(token)
