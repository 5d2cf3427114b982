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
