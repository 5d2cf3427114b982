"""The client goes away, or nobody answers: the command ends in time, and nothing is signed behind anybody's back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ctap_site import Finger, Site, Traces
from fido2.client import ClientError
from fido2.ctap import STATUS, CtapError
from fido2.ctap2.pin import ClientPin
from real_server import ThreadServer, wait_until

from device_sdk import Device
from device_sdk.ctap import Status, TandemCtapDevice

ERR = CtapError.ERR
LOGINS = "/v1/logins"


class Waiting:
    """An answer that comes only once it is given up. `deaf`: not even then, within the test's time."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.asked, self.given_up, self.let_go = threading.Event(), threading.Event(), threading.Event()
        self._deaf = deaf

    def __call__(self, cancelled: threading.Event) -> Any:
        self.asked.set()
        if self._deaf:
            self.let_go.wait(10)
        elif cancelled.wait(10):
            self.given_up.set()
        return None


DOORS: dict[str, Callable[[Site, threading.Event], object]] = {
    "token": lambda shop, event: shop.register("bob", event=event),
    "make": lambda shop, event: shop.raw_make(None, event=event),
    "get": lambda shop, event: shop.raw_get(None, event=event),
    "selection": lambda shop, event: shop.ctap().selection(event=event),
    "reset": lambda shop, event: shop.ctap().reset(event=event),
}


@pytest.mark.parametrize("deaf", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_a_client_that_cancels_while_the_person_is_asked(
    shop: Site, finger: Finger, traces: Traces, device: Device, door: str, deaf: bool
) -> None:
    """It is told at once, whether or not the app gives up the question."""
    known = shop.register("ann")
    traces.since()
    waiting, event = Waiting(deaf=deaf), threading.Event()
    finger.answer = waiting
    threading.Thread(target=lambda: waiting.asked.wait(10) and event.set()).start()

    start = time.monotonic()
    with pytest.raises((CtapError, ClientError)) as fault:
        DOORS[door](shop, event)
    assert time.monotonic() - start < 5

    cause = fault.value.cause if isinstance(fault.value, ClientError) else fault.value
    assert isinstance(cause, CtapError) and cause.code == ERR.KEEPALIVE_CANCEL
    if not deaf:
        assert waiting.given_up.wait(10)
    waiting.let_go.set()
    assert traces.since() == (0, 0)
    finger.answer = None
    assert [info.credential_id for info in device.credentials()] == [known]
    assert shop.sign_in() == known


def test_the_timeout_of_the_site(shop: Site, finger: Finger, traces: Traces) -> None:
    shop.register()
    traces.since()
    finger.answer = Waiting()
    for wanted in (lambda: shop.register("bob", timeout_ms=60), lambda: shop.ask(timeout_ms=60)):
        with pytest.raises(ClientError) as fault:
            wanted()
        assert fault.value.code == ClientError.ERR.TIMEOUT
    assert traces.since() == (0, 0)


def test_nobody_answers(device: Device, finger: Finger, traces: Traces) -> None:
    finger.answer = waiting = Waiting()
    with TandemCtapDevice(device, finger, user_timeout_s=0.05) as authenticator:
        for door in DOORS:
            with pytest.raises((CtapError, ClientError)) as fault:
                DOORS[door](Site(authenticator), threading.Event())
            cause = fault.value.cause if isinstance(fault.value, ClientError) else fault.value
            # GetAssertion asks nobody where there is no passkey to ask for.
            wanted = ERR.NO_CREDENTIALS if door == "get" else ERR.USER_ACTION_TIMEOUT
            assert isinstance(cause, CtapError) and cause.code == wanted
    assert waiting.given_up.wait(10)
    assert traces.since() == (0, 0)


def test_cancelled_before_it_began(shop: Site, finger: Finger, traces: Traces) -> None:
    shop.register()
    event = threading.Event()
    event.set()
    finger.asked.clear()
    traces.since()
    for door in ("make", "get", "selection"):
        with pytest.raises(CtapError) as fault:
            DOORS[door](shop, event)
        assert fault.value.code == ERR.KEEPALIVE_CANCEL
    assert not finger.asked and traces.since() == (0, 0)


def test_cancelled_in_the_moment_of_the_answer(shop: Site, finger: Finger, traces: Traces) -> None:
    shop.register()
    traces.since()
    for door in ("make", "get", "selection", "reset"):
        event = threading.Event()

        def answer(_: threading.Event, event: threading.Event = event) -> Any:
            event.set()
            return finger.person.capture()

        finger.answer = answer
        with pytest.raises(CtapError) as fault:
            DOORS[door](shop, event)
        assert fault.value.code == ERR.KEEPALIVE_CANCEL
    assert traces.since() == (0, 0)


def test_cancelled_while_the_capture_is_encoded(shop: Site, finger: Finger, authenticator: TandemCtapDevice) -> None:
    """No token for a client that is gone, and no capture behind it."""
    shop.register()
    event = threading.Event()

    def sample() -> Any:
        event.set()
        return finger.person.capture()

    finger.answer = lambda _: sample  # an encoder calls a function where it gets one for a sample
    pin = ClientPin(shop.ctap())
    with pytest.raises(CtapError) as fault:
        pin.get_uv_token(ClientPin.PERMISSION.GET_ASSERTION, "shop.example", event)
    assert fault.value.code == ERR.KEEPALIVE_CANCEL
    assert authenticator._session.tokens._token is None


@pytest.mark.parametrize("door", ["raw_make", "raw_get"])
def test_a_client_that_cancels_while_another_ceremony_is_under_way(
    shop: Site, traces: Traces, device: Device, door: str
) -> None:
    """The device does one at a time. Who gives up waiting is told so at once, and has cost nothing."""
    shop.register("ann")
    traces.since()
    event = threading.Event()
    told: list[STATUS] = []
    statuses: list[object] = []

    def ask() -> None:
        with pytest.raises(CtapError) as fault:
            getattr(shop, door)(None, event=event, on_keepalive=told.append)
        statuses.append(fault.value.code)

    thread = threading.Thread(target=ask)
    with device._store.in_flight:
        thread.start()
        wait_until(lambda: STATUS.PROCESSING in told)
        event.set()
        thread.join(5)
        assert statuses == [ERR.KEEPALIVE_CANCEL]
    assert traces.since() == (0, 0)


def test_closing_ends_the_command_under_way(
    shop: Site, finger: Finger, authenticator: TandemCtapDevice, traces: Traces
) -> None:
    """Else the question stays on the display, and the capture that answers it in memory."""
    shop.register()
    traces.since()
    finger.answer = waiting = Waiting()
    for door in ("token", "get", "reset"):
        waiting.asked.clear()
        closing = threading.Thread(target=lambda: waiting.asked.wait(10) and authenticator.close())
        closing.start()
        with pytest.raises((CtapError, ClientError)) as fault:
            DOORS[door](shop, threading.Event())
        cause = fault.value.cause if isinstance(fault.value, ClientError) else fault.value
        assert isinstance(cause, CtapError) and cause.code == ERR.KEEPALIVE_CANCEL
        assert waiting.given_up.wait(10)
        closing.join(10)
    assert traces.since() == (0, 0)


def test_closing_in_the_moment_of_the_answer(shop: Site, authenticator: TandemCtapDevice) -> None:
    """What the last command before it came to is forgotten too."""
    shop.register("ann")
    shop.register("bob")
    session = authenticator._session

    def closed_first(issue: Callable[..., Any]) -> Callable[..., Any]:
        def after_closing(*given: Any) -> Any:
            authenticator.close()
            return issue(*given)

        return after_closing

    session.tokens.issue = closed_first(session.tokens.issue)  # type: ignore[method-assign]
    shop.token(2)
    assert session.tokens._token is None

    session.go_on_with = closed_first(session.go_on_with)  # type: ignore[method-assign]
    shop.raw_get(None, options={"up": False})
    assert authenticator.call(0x10, b"\x08") == bytes([Status.CTAP2_ERR_NOT_ALLOWED])


def test_a_login_that_the_server_was_asked_for_is_finished(
    shop: Site, finger: Finger, server: ThreadServer, traces: Traces
) -> None:
    """To cancel then would throw away a match; the answer comes, and the client may ignore it."""
    known = shop.register()
    traces.since()
    hold, event = threading.Event(), threading.Event()
    server.hold[LOGINS] = hold
    try:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(shop.raw_get(None, event=event)))
        thread.start()
        wait_until(lambda: LOGINS in server.traffic.paths())
        event.set()
        hold.set()
        thread.join(10)
    finally:
        hold.set()
        del server.hold[LOGINS]
    assert [answer.credential["id"] for answer in answers] == [known]
    assert shop.sign_in() == known


def test_a_registration_that_is_cancelled_before_its_signature_is_none(
    shop: Site, server: ThreadServer, traces: Traces, device: Device, authenticator: TandemCtapDevice
) -> None:
    """The server holds its half by then; without the first signature neither side uses it."""
    hold, event = threading.Event(), threading.Event()
    server.hold["/v1/credentials"] = hold
    try:
        statuses: list[object] = []

        def register() -> None:
            with pytest.raises(CtapError) as fault:
                shop.raw_make(None, event=event)
            statuses.append(fault.value.code)

        thread = threading.Thread(target=register)
        thread.start()
        wait_until(lambda: "/v1/credentials" in server.traffic.paths())
        event.set()
        hold.set()
        thread.join(10)
    finally:
        hold.set()
        del server.hold["/v1/credentials"]
    assert statuses == [ERR.KEEPALIVE_CANCEL]
    assert traces.since() == (0, 1)
    assert device.credentials() == []


def test_keep_alive_messages(shop: Site, authenticator: TandemCtapDevice, finger: Finger) -> None:
    """Waiting for the person, then working: one message for each, and none where nobody waits."""
    shop.register()
    told: list[STATUS] = []

    shop.ctap().get_assertion("shop.example", bytes(32), on_keepalive=told.append)
    assert told == [STATUS.UPNEEDED, STATUS.PROCESSING]

    told.clear()
    shop.ctap().get_assertion("shop.example", bytes(32), options={"up": False}, on_keepalive=told.append)
    assert authenticator.call(0x10, b"\x04", on_keepalive=told.append)[0] == Status.CTAP2_OK
    assert told == []


def test_a_client_whose_keep_alive_fails_gets_a_status(shop: Site, authenticator: TandemCtapDevice) -> None:
    def broken(_: STATUS) -> None:
        raise OSError("the pipe is gone")

    assert authenticator.call(0x10, b"\x0b", on_keepalive=broken) == bytes([Status.CTAP1_ERR_OTHER])
    assert isinstance(authenticator.last_fault, OSError)
