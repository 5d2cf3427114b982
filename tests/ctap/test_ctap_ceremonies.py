"""Honest ceremonies: python-fido2's client at one end, its server at the other, and the real auth server behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from ctap_site import PS256, RS256, ChoosingFinger, Clock, Finger, Site, Traces
from fido2.client import ClientError
from fido2.cose import PS256 as CosePs256
from fido2.cose import RS256 as CoseRs256
from fido2.ctap import CtapError
from fido2.ctap2.pin import ClientPin
from people import Person, enrolled_device
from real_server import ThreadServer, thread_server

from device_sdk import Device
from device_sdk.ctap import Prompt, Purpose, TandemCtapDevice
from device_sdk.errors import InvalidState, LockedOut, NoMatch, RelyingPartyNotAllowed, TransportError


def status_of(fault: ClientError) -> CtapError.ERR:
    assert isinstance(fault.cause, CtapError)
    return fault.cause.code


@pytest.mark.parametrize("verification", ["required", "preferred", "discouraged"])
def test_register_and_sign_in_with_and_without_naming_the_passkey(
    shop: Site, finger: Finger, traces: Traces, verification: str
) -> None:
    """Whatever the site asks for: each answer is verified, and costs one capture and one attempt."""
    known = shop.register(verification=verification)
    assert shop.sign_in(allow=[b"another's", known], verification=verification) == known
    assert shop.sign_in(verification=verification) == known

    assert [prompt.purpose for prompt in finger.asked] == [Purpose.REGISTER, Purpose.SIGN_IN, Purpose.SIGN_IN]
    assert {prompt.rp_id for prompt in finger.asked} == {"shop.example"}
    assert len(set(finger.given)) == 3
    assert traces.since() == (3, 4)


@pytest.mark.parametrize(("algorithm", "kind"), [(RS256, CoseRs256), (PS256, CosePs256)])
def test_both_algorithms(shop: Site, algorithm: int, kind: type) -> None:
    known = shop.register(algorithms=(-7, algorithm, RS256))
    assert isinstance(shop.known[known].public_key, kind)
    assert [shop.sign_in(allow=[known]) for _ in range(2)] == [known] * 2


def test_a_site_that_lists_no_rsa_is_refused_before_anybody_is_asked(shop: Site, finger: Finger) -> None:
    ctap = shop.ctap()
    with pytest.raises(CtapError) as fault:
        ctap.make_credential(
            bytes(32), {"id": "shop.example"}, {"id": b"u"}, [{"type": "public-key", "alg": alg} for alg in (-7, -8)]
        )
    assert fault.value.code == CtapError.ERR.UNSUPPORTED_ALGORITHM
    assert not finger.asked


def test_a_client_that_gets_no_token_is_verified_all_the_same(shop: Site, finger: Finger) -> None:
    """CTAP 2.0 clients send no pinUvAuthParam; alwaysUv holds for them too."""
    made = shop.ctap().make_credential(
        bytes(32),
        {"id": "shop.example"},
        {"id": b"u", "name": "ulf"},
        [{"type": "public-key", "alg": RS256}],
        options={"rk": True},
    )
    assert made.auth_data.is_user_verified() and made.fmt == "packed"
    for options in (None, {"uv": False}, {"uv": True}):
        answer = shop.ctap().get_assertion("shop.example", b"h" * 32, options=options)
        assert answer.auth_data.is_user_verified()
        answer.verify(b"h" * 32, made.auth_data.credential_data.public_key)
    assert finger.asked[0] == Prompt(Purpose.REGISTER, "shop.example", "ulf")


class TestSeveralAccounts:
    USERS = ("ann", "bob", "eve")

    def test_each_has_an_assertion_of_its_own_and_a_capture_of_its_own(
        self, shop: Site, finger: Finger, traces: Traces
    ) -> None:
        made = [shop.register(user) for user in self.USERS]
        finger.given.clear()
        traces.since()

        state, selection = shop.ask()
        assertions = selection.get_assertions()
        answers = [selection.get_response(at) for at in range(len(assertions))]

        assert [shop.check(state, answer) for answer in answers] == made[::-1]
        assert [answer.response.user_handle for answer in answers] == [user.encode() for user in self.USERS[::-1]]
        assert [one.user["name"] for one in assertions] == list(self.USERS[::-1])
        assert [one.user["displayName"] for one in assertions] == ["Eve", "Bob", "Ann"]
        assert len(set(finger.given)) == len(finger.given) == 3
        assert traces.since() == (3, 3)
        assert [prompt.account for prompt in finger.asked[-3:]] == [None, "bob", "ann"]

    def test_a_named_passkey_answers_alone_and_without_names(self, shop: Site) -> None:
        made = [shop.register(user) for user in self.USERS]
        _, selection = shop.ask(allow=made)

        (assertion,) = selection.get_assertions()
        assert assertion.user is not None and set(assertion.user) == {"id"}
        assert assertion.number_of_credentials is None

    def test_the_person_picks_one_on_the_display(self, shop: Site, device: Device) -> None:
        made = dict(zip(self.USERS, [shop.register(user) for user in self.USERS], strict=True))
        finger = ChoosingFinger(Person(1), wanted="bob")
        with TandemCtapDevice(device, finger) as authenticator:
            shop.authenticator = authenticator
            state, selection = shop.ask()
            (assertion,) = selection.get_assertions()
            assert assertion.user_selected is True
            assert shop.check(state, selection.get_response(0)) == made["bob"]
            assert finger.offered == [["eve", "bob", "ann"]]
            assert len(finger.given) == 1

            finger.wanted = "nobody"
            with pytest.raises(ClientError) as fault:
                shop.sign_in()
            assert status_of(fault.value) == CtapError.ERR.OPERATION_DENIED

    def test_a_new_passkey_takes_the_place_of_the_one_of_its_account(self, shop: Site, device: Device) -> None:
        shop.register("ann")
        hidden = shop.register("ann", resident=False)
        second = shop.register("ann")
        shop.register("bob")

        assert {info.user_name for info in device.credentials()} == {"ann", "bob"}
        assert len(device.credentials()) == 3
        assert shop.sign_in(allow=[hidden]) == hidden
        assert shop.sign_in(allow=[second]) == second

    def test_a_passkey_that_is_not_discoverable_takes_no_ones_place(self, shop: Site) -> None:
        discoverable = shop.register("ann")
        hidden = shop.register("ann", resident=False)

        assert shop.sign_in() == discoverable
        state, selection = shop.ask(allow=[hidden])
        assert selection.get_assertions()[0].user is None
        assert shop.check(state, selection.get_response(0)) == hidden

    def test_sites_do_not_see_each_other(self, shop: Site, authenticator: TandemCtapDevice) -> None:
        bank = Site(authenticator, "bank.example")
        at_shop, at_bank = shop.register(), bank.register()

        assert (shop.sign_in(), bank.sign_in()) == (at_shop, at_bank)
        with pytest.raises(ClientError) as fault:
            bank.ask(allow=[at_shop])
        assert fault.value.code == ClientError.ERR.DEVICE_INELIGIBLE


class TestExcluded:
    def test_told_only_after_a_match(
        self, shop: Site, finger: Finger, authenticator: TandemCtapDevice, device: Device
    ) -> None:
        known = shop.register("ann")

        finger.person = Person(2)
        with pytest.raises(ClientError) as fault:
            shop.register("bob", exclude=[known])
        assert status_of(fault.value) == CtapError.ERR.OPERATION_DENIED
        assert isinstance(authenticator.last_fault, NoMatch)

        finger.person = Person(1)
        with pytest.raises(ClientError) as fault:
            shop.register("bob", exclude=[known])
        assert status_of(fault.value) == CtapError.ERR.CREDENTIAL_EXCLUDED
        assert isinstance(authenticator.last_fault, InvalidState)
        assert [info.credential_id for info in device.credentials()] == [known]

    def test_another_s_passkey_excludes_nothing(self, shop: Site, authenticator: TandemCtapDevice) -> None:
        known = shop.register("ann")

        Site(authenticator, "bank.example").register("ann", exclude=[known])
        shop.register("bob", exclude=[b"x" * 32])


class TestTheWrongFinger:
    def test_nothing_is_signed_and_the_next_try_is_good(
        self, shop: Site, finger: Finger, authenticator: TandemCtapDevice
    ) -> None:
        known = shop.register()
        finger.person = Person(2)
        for wanted in ({"allow": [known]}, {}):
            with pytest.raises(ClientError) as fault:
                shop.ask(**wanted)
            assert status_of(fault.value) == CtapError.ERR.OPERATION_DENIED
            assert isinstance(authenticator.last_fault, NoMatch)

        with pytest.raises(ClientError) as fault:
            shop.register("bob")
        assert status_of(fault.value) == CtapError.ERR.OPERATION_DENIED

        finger.person = Person(1)
        assert shop.sign_in() == known
        assert authenticator.last_fault is None

    def test_too_many_of_them(self, tmp_path: Path) -> None:
        """What the server says of trying again is what uvRetries says, and nobody is asked while it holds."""
        limits = {"consecutive_before_delay": 2}
        clock = Clock()
        with (
            thread_server(tmp_path, limits=limits) as server,
            enrolled_device(server, tmp_path, Person(1)) as device,
            TandemCtapDevice(device, finger := Finger(Person(1)), clock=clock) as authenticator,
        ):
            shop = Site(authenticator)
            pin = ClientPin(shop.ctap())
            known = shop.register()
            device.confirm_now()
            finger.person = Person(2)
            for _ in range(2):
                assert pin.get_uv_retries() == 1
                with pytest.raises(ClientError):
                    shop.ask(allow=[known])

            finger.person = Person(1)
            with pytest.raises(ClientError):  # the client takes UV_BLOCKED for "ask for a PIN", and there is none
                shop.ask(allow=[known])
            assert isinstance(authenticator.last_fault, LockedOut)
            assert pin.get_uv_retries() == 0
            asked = len(finger.asked)
            for refused in (
                lambda: pin.get_uv_token(2, "shop.example"),
                lambda: shop.ctap().get_assertion("shop.example", bytes(32)),
            ):
                with pytest.raises(CtapError) as fault:
                    refused()
                assert fault.value.code == CtapError.ERR.UV_BLOCKED
            assert len(finger.asked) == asked

            clock.now += 31
            assert pin.get_uv_retries() == 1


def test_a_site_that_the_server_does_not_serve(authenticator: TandemCtapDevice, device: Device) -> None:
    with pytest.raises(ClientError) as fault:
        Site(authenticator, "other.example").register()
    assert status_of(fault.value) == CtapError.ERR.NOT_ALLOWED
    assert isinstance(authenticator.last_fault, RelyingPartyNotAllowed)
    assert device.credentials() == []


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    with thread_server(tmp_path) as server:
        device = enrolled_device(server, tmp_path, Person(1))
    with device, TandemCtapDevice(device, Finger(Person(1))) as authenticator:
        with pytest.raises(ClientError) as fault:
            Site(authenticator).register()
        assert status_of(fault.value) == CtapError.ERR.OTHER
        assert isinstance(authenticator.last_fault, TransportError)


def test_selection(shop: Site, finger: Finger) -> None:
    shop.client().selection()
    assert finger.asked == [Prompt(Purpose.SELECT)]

    finger.answer = lambda _: False
    with pytest.raises(ClientError) as fault:
        shop.client().selection()
    assert status_of(fault.value) == CtapError.ERR.OPERATION_DENIED


def test_clients_of_before_selection_ask_with_an_empty_parameter(shop: Site, finger: Finger) -> None:
    ctap, params = shop.ctap(), [{"type": "public-key", "alg": RS256}]
    for ask in (
        lambda: ctap.make_credential(bytes(32), {"id": "shop.example"}, {"id": b"u"}, params, pin_uv_param=b""),
        lambda: ctap.get_assertion("shop.example", bytes(32), pin_uv_param=b""),
    ):
        with pytest.raises(CtapError) as fault:
            ask()
        assert fault.value.code == CtapError.ERR.PIN_INVALID
    assert finger.asked == [Prompt(Purpose.SELECT)] * 2 and not finger.given


class TestReset:
    def test_every_passkey_is_given_up_at_the_server_too(
        self, shop: Site, finger: Finger, device: Device, server: ThreadServer, authenticator: TandemCtapDevice
    ) -> None:
        made = [shop.register("ann"), shop.register("bob", resident=False)]
        shop.sign_in(allow=[made[0]])

        shop.ctap().reset()

        assert finger.asked[-1] == Prompt(Purpose.RESET)
        assert device.credentials() == []
        for one in made:
            rows = server.database.rows("SELECT sealed_share FROM credentials WHERE id = ?", one)
            assert [row["sealed_share"] for row in rows] in ([], [None])
        with pytest.raises(ClientError) as fault:
            shop.sign_in(allow=made)
        assert status_of(fault.value) == CtapError.ERR.NO_CREDENTIALS
        assert shop.sign_in(allow=[shop.register("ann")])

    def test_not_without_a_yes(self, shop: Site, finger: Finger, device: Device) -> None:
        known = shop.register()
        finger.answer = lambda _: False
        with pytest.raises(CtapError) as fault:
            shop.ctap().reset()
        assert fault.value.code == CtapError.ERR.OPERATION_DENIED
        finger.answer = None
        assert shop.sign_in() == known


def test_what_get_info_says(shop: Site) -> None:
    info = shop.ctap().info

    assert info.versions == ["FIDO_2_0", "FIDO_2_1"]
    assert info.extensions == ["credProtect"]
    assert str(info.aaguid) == "5c1f9d0a-7a3e-4b52-9a64-7ad3e0c2f1b8"
    assert {name for name, on in info.options.items() if on} == {
        "plat", "rk", "up", "uv", "alwaysUv", "credMgmt", "pinUvAuthToken",
    }  # fmt: skip
    assert info.pin_uv_protocols == [2]
    assert [one["alg"] for one in info.algorithms] == [RS256, PS256]
    assert info.transports == ["internal"]
    assert info.attestation_formats == ["packed", "none"]


@pytest.mark.parametrize(
    ("preference", "fmt"),
    [
        (["none"], "none"),
        (["packed", "none"], "packed"),
        (["tpm", "none"], "none"),
        (["tpm"], "packed"),
        ([], "packed"),
    ],
)
def test_the_attestation_format_that_a_client_prefers(shop: Site, preference: list[str], fmt: str) -> None:
    made = shop.ctap().send_cbor(
        0x01,
        {
            1: bytes(32), 2: {"id": "shop.example"}, 3: {"id": b"u"}, 4: [{"alg": RS256, "type": "public-key"}],
            0x0B: preference,
        },
    )  # fmt: skip
    assert made[1] == fmt
    assert bool(made[3]) == (fmt == "packed")
